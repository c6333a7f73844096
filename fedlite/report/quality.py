"""How good single classes are and how sure a model is, in the report's words and tables."""

from collections.abc import Sequence

from fedlite.base.class_scores import class_scores
from fedlite.base.intervals import wilson_interval
from fedlite.report.parts import plain, table
from fedlite.report.quality_sections import EnergyEntry, QualityEntry, QualityFacts
from fedlite.report.schema import Report
from fedlite.report.words import artefacts_of, model_labels, percent, tested_on

MOST_CLASSES = 30  # rows of a table; of more classes the worst are shown
MOST_CONFUSED = 5
_FINE = 1000  # examples from which a tenth of a point says something


def quality_entry(facts: QualityFacts, class_names: Sequence[str]) -> QualityEntry:
    """What was found of a file, with the scores of its classes.

    Args:
        facts: of the file.
        class_names: one for each class.
    """
    return {
        **facts,
        "classes": [
            {
                "class_name": name,
                "examples": scores.examples,
                "answered": scores.answered,
                "precision": scores.precision,
                "recall": scores.recall,
                "f1": scores.f1,
            }
            for name, scores in zip(class_names, class_scores(facts["confusion"]), strict=True)
        ],
    }


def file_label(name: str, report: Report) -> str:
    """A file of ``quality`` as people call it: ``Student, quantized (int8)``."""
    entry = report["quality"][name]
    made = {one["name"]: one for one in artefacts_of(report)}.get(name)
    label = model_labels(report)[entry["model"]]
    form = f", {made['format']}" if made and made["format"] != "onnx" else ""
    return f"{label} ({made['precision']}{form})" if made else label


def quality_markdown(name: str, report: Report) -> str:
    """Classes, confusions, calibration and energy of a file on the test set.

    Args:
        name: of the file.
        report: the report dictionary (docs/report.md) with ``quality``.
    """
    entry = report["quality"][name]
    return "\n\n".join(
        [
            _classes(entry),
            _confusions(entry),
            _calibration(entry, tested_on(report)),
            energy_sentence(entry["energy"]),
        ]
    )


def _classes(entry: QualityEntry) -> str:
    rows, shown = entry["classes"], entry["classes"]
    words = "Intervals are of 95% (Wilson's), on the class's own examples."
    if len(rows) > MOST_CLASSES:
        shown = sorted(rows, key=lambda one: -1.0 if one["f1"] is None else one["f1"])
        shown = shown[:MOST_CLASSES]
        words = f"The {MOST_CLASSES} worst of {len(rows)} classes; report.json has all. {words}"
    cells = [
        [
            plain(one["class_name"]),
            f"{one['examples']:,}",
            _share(one["precision"], one["answered"]),
            _share(one["recall"], one["examples"]),
            _plain_share(one["f1"], one["examples"]),
        ]
        for one in shown
    ]
    head = ["Class", "Examples", "Precision", "Recall", "F1"]
    return f"{table(head, cells)}\n\n{words}"


def _share(share: float | None, count: int) -> str:
    """A share of so many examples with its interval, no finer than they allow."""
    if share is None:
        return "–"
    low, high = wilson_interval(share, count)
    digits = _digits(count)
    return f"{100 * share:.{digits}f}% ({100 * low:.{digits}f} to {100 * high:.{digits}f}%)"


def _plain_share(share: float | None, count: int) -> str:
    return "–" if share is None else f"{100 * share:.{_digits(count)}f}%"


def _digits(count: int) -> int:
    return 1 if count >= _FINE else 0


def _confusions(entry: QualityEntry) -> str:
    names = [one["class_name"] for one in entry["classes"]]
    pairs = [
        (count, true, seen)
        for true, row in enumerate(entry["confusion"])
        for seen, count in enumerate(row)
        if true != seen and count
    ]
    worst = sorted(pairs, key=lambda one: (-one[0], one[1:]))[:MOST_CONFUSED]
    if not worst:
        return "No example was answered wrong."
    words = (
        f"{plain(names[true])} as {plain(names[seen])}, {count:,} of"
        f" {entry['classes'][true]['examples']:,}"
        for count, true, seen in worst
    )
    return f"Most often confused: {'; '.join(words)}."


def _calibration(entry: QualityEntry, tested: str) -> str:
    examples = sum(one["examples"] for one in entry["bins"])
    sure = sum(one["examples"] * one["confidence"] for one in entry["bins"]) / examples
    right = sum(one["examples"] * one["accuracy"] for one in entry["bins"]) / examples
    words = [
        f"On average it is {percent(sure)} sure and {percent(right)} right on {examples:,}"
        f" {tested} examples. Its expected calibration error ({_BINS_WORDS}) is"
        f" {_points(entry['calibration_error'])}; a perfectly calibrated model would show"
        f" {_points(entry['error_by_chance'])} on so few examples."
    ]
    if entry["calibrated_on"]:
        words.append(
            f"Its logits are divided by the temperature {entry['temperature']:.2g}, fitted on"
            f" {entry['calibrated_on']:,} public examples; without it the error is"
            f" {_points(entry['calibration_error_before'])}."
        )
    else:
        words.append(
            "Its probabilities were not calibrated: too few public examples were kept from"
            " training."
        )
    return " ".join(words)


_BINS_WORDS = "15 bins of equal width, Guo et al. 2017"


def _points(error: float) -> str:
    return f"{100 * error:.1f} points"


def energy_sentence(energy: EnergyEntry) -> str:
    """Joules of one inference, and whether anybody measured them."""
    if energy["joules"] is None:
        return "Energy: not known; the operations of its layers are not counted."
    counted = f"{count_text(energy['operations'])} multiplications with their additions"
    if energy["measured"]:
        found = f"{joules_text(energy['joules'])}, {energy['source']}; {counted}"
    else:
        found = f"about {joules_text(energy['joules'])}, {energy['source']}; {counted} were counted"
    return f"Energy of one answer: {found}."


def joules_text(joules: float) -> str:
    """``3.1e-7 -> '0.31 µJ'``, two digits: none of these figures has more."""
    for unit, size in (("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6), ("nJ", 1e-9)):
        if joules >= 0.1 * size or unit == "nJ":
            return f"{joules / size:.2g} {unit}"
    raise AssertionError(joules)


def count_text(count: float) -> str:
    """``61234 -> '61 thousand'``, ``2.53e6 -> '2.5 million'``."""
    for word, size in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {word}"
    return f"{count:.0f}"
