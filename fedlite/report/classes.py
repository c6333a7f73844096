"""The report of several classes of students: one table, what the joins did, what it cost."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedlite.base.files import csv_text, write_whole
from fedlite.base.intervals import wilson_interval
from fedlite.base.records import METRIC_NAMES, JoinRecord, ModelKey
from fedlite.report.html import report_html
from fedlite.report.markdown import markdown_of
from fedlite.report.parts import Folded, Part, code_block, plain, table
from fedlite.report.schema import Report
from fedlite.report.sections import TogetherSection
from fedlite.report.words import (
    NOT_PRIVATE,
    epsilon_text,
    epsilons_text,
    final_model,
    human_bytes,
    is_private,
    metric_of,
    not_private_reason,
    percent,
    score_text,
    sentence_case,
    tested_on,
)

NONE = "–"
NUMBERS = ("Public only", "Alone", "Federated", "Ships", "Epsilon", "Bytes", "Latency p50")


@dataclass(frozen=True)
class StudentClassEntry:
    """One class: its clients, its limit in bytes, its report, and what its federated student
    reaches ``alone``, by ``dataset.metric``, where it was run so as well."""

    name: str
    clients: int
    limit: int | None
    report: Report
    alone: float | None = None


@dataclass(frozen=True)
class ClassesReport:
    """All classes of a run. ``joins`` tells of every join; ``every`` is how many rounds lie between
    two, 0 where there are none. ``together`` is by class what it and its run alone have spent of
    the same clients."""

    title: str
    command: str
    entries: Sequence[StudentClassEntry]
    every: int
    joins: Sequence[JoinRecord]
    together: dict[str, TogetherSection]


def write_classes(found: ClassesReport, directory: Path) -> None:
    """Write ``report.md``, ``report.html`` and ``classes.csv``; each is whole or as it was."""
    parts = classes_parts(found)
    write_whole(directory / "report.md", markdown_of(parts))
    write_whole(directory / "report.html", report_html(found.title, parts, directory))
    write_whole(directory / "classes.csv", classes_csv(found))


def heads_of(found: ClassesReport) -> list[str]:
    """The columns of :func:`rows_of`."""
    alone = any(one.alone is not None for one in found.entries)
    return ["Class", "Clients", "Student", *(one for one in NUMBERS if alone or one != "Alone")]


def rows_of(found: ClassesReport) -> list[list[str]]:
    """A row for each class: what it reached by ``dataset.metric``, spent and costs."""
    return [_row(one, found) for one in found.entries]


def _row(one: StudentClassEntry, found: ClassesReport) -> list[str]:
    report, ships = one.report, final_model(one.report)
    assert ships is not None  # it was measured
    made = report["models"][ships]
    cells = {
        "Class": one.name,
        "Clients": f"{one.clients:,}",
        "Student": str(report["config"]["student"]["name"]),
        "Public only": _score(report, "public_student"),
        "Alone": NONE if one.alone is None else score_text(one.alone, metric_of(report)),
        "Federated": _score(report, "federated_student"),
        "Ships": _score(report, ships),
        "Epsilon": epsilons_text(report["privacy"]),
        "Bytes": human_bytes(made["bytes"]),
        "Latency p50": f"{made['latency_ms']['p50']:.3f} ms",
    }
    return [cells[head] for head in heads_of(found)]


def _score(report: Report, key: ModelKey) -> str:
    metric = metric_of(report)
    return score_text(report["models"][key][metric], metric)


def sentences_of(found: ClassesReport) -> list[str]:
    """What the table does not show."""
    first = found.entries[0].report
    tests = first["dataset"]["test"]
    low, high = wilson_interval(0.5, tests)
    metric, widest = metric_of(first), ""
    if metric == "accuracy":
        reach = 100 * (high - low) / 2
        widest = f"; 95% intervals reach up to {reach:.1f} points to either side"
    said = [
        f"{sentence_case(METRIC_NAMES[metric])} on {tests:,} {tested_on(first)} examples{widest}."
        " Ships is the file in deploy/ of each class, and so are bytes and latency."
    ]
    said += _privacy(found)
    said += _joins(found)
    said += [
        f"Class {one.name} ships {_bytes(one):,} bytes, more than its limit of {one.limit:,}: a"
        f" smaller file was refused, and classes/{one.name}/report.md says why."
        for one in found.entries
        if one.limit is not None and _bytes(one) > one.limit
    ]
    return said


def _bytes(one: StudentClassEntry) -> int:
    ships = final_model(one.report)
    assert ships is not None
    return one.report["models"][ships]["bytes"]


def _privacy(found: ClassesReport) -> list[str]:
    privacy = found.entries[0].report["privacy"]
    if not is_private(privacy):
        return [f"{NOT_PRIVATE}: {not_private_reason(privacy)}."]
    said = []
    for index, unit in enumerate(privacy["units"]):
        units = [one.report["privacy"]["units"][index] for one in found.entries]
        most, delta = (max(one[key] for one in units) for key in ("epsilon_max", "delta"))
        said.append(f"{epsilon_text(most)} at delta {delta:g} for one {unit['unit']}")
    return [
        "Every client is in one class and is charged for that alone, so the epsilon of all classes"
        f" is the largest of theirs: {' and '.join(said)}. Each was planned for its own clients."
    ]


def _joins(found: ClassesReport) -> list[str]:
    if not found.every:
        return ["The classes did not learn from each other (federation.join.every=0)."]
    rounds = len({one.round for one in found.joins})
    taken = Counter(one.class_name for one in found.joins if one.taken)
    by_class = ", ".join(f"{one.name} {taken[one.name]} of {rounds}" for one in found.entries)
    said = [
        f"The classes learnt from each other {rounds} time{'s' * (rounds > 1)}, after every"
        f" {found.every} rounds and the last: on public examples, from the mean logits of all"
        " students (FedDF). That is post-processing and cost no epsilon. A class goes on with what"
        f" it learnt where public validation examples say that it is no worse: {by_class}."
    ]
    if found.together:
        spent = "; ".join(
            f"{name} {', '.join(epsilon_text(unit['epsilon']) for unit in together['units'])}"
            for name, together in found.together.items()
        )
        said.append(
            "Alone is each class without joins: a second federation of the same clients, on ledgers"
            " of its own (alone/), which a comparison needs and a deployment does not. Whoever sees"
            f" both has spent both, composed by RDP: {spent}."
        )
    return said


def classes_parts(found: ClassesReport) -> list[Part]:
    """The report in the order in which it is read."""
    parts: list[Part] = [f"# {plain(found.title)}", code_block(found.command)]
    parts.append(table(heads_of(found), [list(map(plain, row)) for row in rows_of(found)]))
    parts.append("\n".join(f"- {plain(line)}" for line in sentences_of(found)))
    if found.joins:
        rows = [
            [f"{one.round}", one.class_name, _share(one.before), _share(one.after), _went_on(one)]
            for one in found.joins
        ]
        heads = ["After round", "Class", "Before", "Joined", "Goes on with"]
        parts.append(
            Folded("The joins: accuracy on public validation examples", [table(heads, rows)])
        )
    links = (
        f"- {one.name}: [report](classes/{one.name}/report.md), ships"
        f" [deploy/](classes/{one.name}/deploy)"
        for one in found.entries
    )
    return [*parts, "## Each class", "\n".join(links)]


def _share(accuracy: float | None) -> str:
    return NONE if accuracy is None else percent(accuracy)


def _went_on(one: JoinRecord) -> str:
    return "the joined student" if one.taken else "its own"


def classes_csv(found: ClassesReport) -> str:
    """``classes.csv``: every number of every class."""
    return csv_text([_csv_row(one) for one in found.entries])


def _csv_row(one: StudentClassEntry) -> dict[str, object]:
    report, metric = one.report, metric_of(one.report)
    ships = final_model(report)
    assert ships is not None
    models, made = report["models"], report["models"][ships]
    row: dict[str, object] = {
        "class": one.name,
        "clients": one.clients,
        "student": report["config"]["student"]["name"],
        f"public_only_{metric}": models["public_student"][metric],
        f"federated_{metric}": models["federated_student"][metric],
        f"ships_{metric}": made[metric],
        "private": is_private(report["privacy"]),
        "ships_bytes": made["bytes"],
        "max_bytes": one.limit,
        "ships_latency_ms_p50": made["latency_ms"]["p50"],
    }
    row |= {
        f"epsilon_{unit['unit']}_level": unit["epsilon_max"] for unit in report["privacy"]["units"]
    }
    if one.alone is not None:
        row[f"alone_{metric}"] = one.alone
    return row
