"""What a report says and in what order: the result on one page, then everything behind it."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from fedlite.base.intervals import wilson_interval
from fedlite.base.records import METRIC_NAMES
from fedlite.report.audits import audits_markdown
from fedlite.report.cascade import cascade_markdown
from fedlite.report.details import details
from fedlite.report.judged import judgement_sentences
from fedlite.report.parts import Folded, Part, code_block, plain, table
from fedlite.report.privacy_statement import privacy_in_words
from fedlite.report.schema import Report
from fedlite.report.searches import search_markdown
from fedlite.report.table import COLUMNS, comparison_rows, privacy_line
from fedlite.report.words import (
    MODEL_LABELS,
    NOT_PRIVATE,
    final_model,
    human_bytes,
    human_seconds,
    metric_of,
    model_labels,
    percent,
    sentence_case,
    tested_on,
)

_ROUNDS = {  # pictures by file, without its ending, and what they show
    "accuracy_by_round": "{Score} by round",
    "epsilon_by_round": "Epsilon spent by round, for one example",
    "client_level_epsilon_by_round": "Epsilon spent by round, for one client",
    "accuracy_by_simulated_time": "{Score} by simulated time",
}
_FILES = {"accuracy_against_latency": "{Score} against latency"}
_CASCADE = {"cascade": "Accuracy against the share of inputs sent"}
_MORE = {
    "accuracy_against_bytes": "{Score} against size",
    "confusion_matrix": "Confusion matrix",
    "reliability": "How sure the models are, and how often right",
    "partition": "Which client holds which classes (simulation only)",
}


def report_title(report: Report) -> str:
    """What the report is called, as plain text."""
    return f"fedlite: {report['dataset']['name']}"


def report_parts(report: Report, pictures: Sequence[str]) -> list[Part]:
    """The report in the order in which it is read.

    Args:
        report: the report dictionary (docs/report.md).
        pictures: names of the files in ``pictures/``, without their ending.
    """
    parts: list[Part] = [f"# {plain(report_title(report))}"]
    if "not_private" in pictures:
        parts.append(f"![{NOT_PRIVATE}](pictures/not_private.png)")
    parts += [_origin(report), *_verdict(report), _answers(report), _comparison(report)]
    score = METRIC_NAMES[metric_of(report)]
    parts += ["\n".join(_drawn(_ROUNDS, pictures, score)), *_drawn(_FILES, pictures, score)]
    if search := report.get("search"):
        parts += ["## Search", search_markdown(search)]
        parts += [f"![Trials of the search](pictures/{one}.png)" for one in search["pictures"]]
    if "cascade" in report:
        parts += ["## When to ask the teacher", cascade_markdown(report)]
        parts += _drawn(_CASCADE, pictures, score)
    parts += ["## Privacy", *privacy_in_words(report["privacy"])]
    if audits := report.get("audits"):
        parts += ["## Audits", audits_markdown(audits)]
    parts += ["## Details", *details(report)]
    if more := _drawn(_MORE, pictures, score):
        parts.append(Folded("More pictures", more))
    return parts


def _drawn(captions: Mapping[str, str], pictures: Sequence[str], score: str) -> list[str]:
    """Those of the pictures that are there, in the order of ``captions``; ``score`` is what the
    metric is called."""
    return [
        f"![{caption.format(Score=sentence_case(score))}](pictures/{name}.png)"
        for name, caption in captions.items()
        if name in pictures
    ]


def _origin(report: Report) -> str:
    """When and how it was made."""
    run, federation = report["run"], report["federation"]
    words = [
        f"{federation['num_clients']:,} clients trained a student on their own data in"
        f" {federation['rounds']:,} rounds; its teacher was made from public data."
    ]
    if "written" in run:
        when = datetime.fromisoformat(run["written"])
        words.insert(0, f"{when.day} {when:%B %Y, %H:%M %Z}.")
    if stopped := federation["stopped"]:
        words.append(f"**The rounds stopped {plain(stopped)}**; what is reported was made before.")
    blocks = [" ".join(words)]
    if "command" in run:
        blocks.append(code_block(run["command"]))
    return "\n\n".join(blocks)


def _verdict(report: Report) -> list[str]:
    """What the private data bought, first of all; which student ships and why."""
    sentences = [plain(sentence) for sentence in judgement_sentences(report)]
    if not sentences:
        return []
    bought, *ships = sentences
    return [f"**{bought}**", *([" ".join(ships)] if ships else [])]


def _answers(report: Report) -> str:
    """The three questions, a line each."""
    lines = []
    final, traffic = final_model(report), report["traffic"]
    if final:
        model, label = report["models"][final], model_labels(report)[final].lower()
        low, high = wilson_interval(model["accuracy"], report["dataset"]["test"])
        examples = f"{report['dataset']['test']:,} {tested_on(report)} examples"
        accurate = f"is {percent(model['accuracy'])} accurate"
        sure = f"(95% interval {percent(low)} to {percent(high)})"
        lines.append(
            f"**How good:** the final model ({label}) {accurate} on {examples} {sure}."
            if metric_of(report) == "accuracy"
            else f"**How good:** the final model ({label}) has a macro-F1 of"
            f" {model['macro_f1']:.3f} on {examples}; it {accurate} {sure}."
        )
    private = privacy_line(report["privacy"]).plain.removeprefix("Privacy: ")
    private = plain(private).replace(NOT_PRIVATE, f"**{NOT_PRIVATE}**", 1)
    lines.append(f"**How private:** {private.rstrip('.')}.")
    if final:
        lines.append(
            f"**How costly:** the final model takes {human_bytes(model['bytes'])} and answers in"
            f" {model['latency_ms']['p50']:.3f} ms ({plain(model['runtime'])}). All clients"
            f" together received {human_bytes(traffic['bytes_down'])} and sent"
            f" {human_bytes(traffic['bytes_up'])}; the run took"
            f" {human_seconds(report['timing']['total'])}."
        )
    return "\n".join(f"- {line}" for line in lines)


def _comparison(report: Report) -> str:
    """All models side by side, with the interval of every accuracy."""
    place, tests = COLUMNS.index("Accuracy"), report["dataset"]["test"]
    accuracies = [
        report["models"][key]["accuracy"] for key in MODEL_LABELS if key in report["models"]
    ]
    final = final_model(report)
    rows = []
    for row, accuracy in zip(comparison_rows(report), accuracies, strict=True):
        low, high = wilson_interval(accuracy, tests)
        row.insert(place + 1, f"{100 * low:.1f} to {percent(high)}")
        ships = final and row[0] == model_labels(report)[final]
        rows.append([f"**{cell}**" if ships or cell == NOT_PRIVATE else cell for cell in row])
    head = list(COLUMNS)
    head.insert(place + 1, "95% interval")
    return table(head, rows)
