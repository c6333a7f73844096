"""The cascade of student and teacher: what each threshold costs, and what the report says of it."""

from collections.abc import Sequence

from fedlite.base.intervals import wilson_interval
from fedlite.report.parts import table
from fedlite.report.quality import joules_text
from fedlite.report.quality_sections import CascadeCost, CascadeSection, PointEntry, QualityFacts
from fedlite.report.schema import Report
from fedlite.report.words import percent, tested_on

SHOWN = (0.1, 0.25, 0.5)  # shares sent that the table has a row for

LEAVES = (
    "Asking sends the input itself to the teacher's server. No epsilon of this report covers what"
    " is sent: use it only where the people whose data these are agree. It is off unless `ask=` is"
    " given (docs/cascade.md)."
)


def cascade_costs(
    points: Sequence[PointEntry],
    latencies: tuple[float, float],
    joules: tuple[float | None, float | None],
    round_trip_ms: float,
) -> list[CascadeCost]:
    """What one answer costs on average at each point.

    ``student + share x (teacher + round trip)`` milliseconds and ``student + share x teacher``
    joules: the student is always asked first.

    Args:
        points: of a curve.
        latencies: milliseconds of the student and of the teacher at batch 1.
        joules: of one answer of each; None where not known.
        round_trip_ms: to the server and back.
    """
    (student_ms, teacher_ms), (student_joules, teacher_joules) = latencies, joules
    found: list[CascadeCost] = []
    for point in points:
        spent = None
        if student_joules is not None and teacher_joules is not None:
            spent = student_joules + point["share"] * teacher_joules
        milliseconds = student_ms + point["share"] * (teacher_ms + round_trip_ms)
        found.append({"milliseconds": milliseconds, "joules": spent})
    return found


def comparable_joules(
    student: QualityFacts, teacher: QualityFacts
) -> tuple[float | None, float | None]:
    """Joules of both, where both were measured or both estimated."""
    one, other = student["energy"], teacher["energy"]
    if one["measured"] != other["measured"]:
        return None, None
    return one["joules"], other["joules"]


def cascade_markdown(report: Report) -> str:
    """What the cascade would bring, at the chosen threshold and at others.

    Args:
        report: the report dictionary (docs/report.md) with ``cascade`` and ``quality``.
    """
    found = report["cascade"]
    return "\n\n".join([_chosen(found, report), _table(found, report), LEAVES])


def _chosen(found: CascadeSection, report: Report) -> str:
    place, tests = found["chosen"], report["dataset"]["test"]
    public, test = found["public"][place], found["test"][place]
    low, high = wilson_interval(test["accuracy"], tests)
    wished = (
        f"so that at most {percent(found['wished_share'])} are sent"
        if found["wished_accuracy"] is None
        else f"for an accuracy of {percent(found['wished_accuracy'])}"
    )
    missed = "" if found["reached"] else ", which no threshold reaches"
    return (
        f"The student can answer where it is at least {percent(min(1.0, test['threshold']))} sure,"
        f" and ask the teacher where it is not. The threshold was chosen {wished}{missed}, on"
        f" {found['public_examples']:,} public examples, where {percent(public['share'])} are sent"
        f" and {percent(public['accuracy'])} are right. On {tests:,} {tested_on(report)} examples"
        f" it sends {percent(test['share'])} and is {percent(test['accuracy'])} accurate (95%"
        f" interval {percent(low)} to {percent(high)}); the student alone is"
        f" {percent(found['test'][0]['accuracy'])} and the teacher"
        f" {percent(found['test'][-1]['accuracy'])} accurate."
    )


def _table(found: CascadeSection, report: Report) -> str:
    points, costs, chosen = found["test"], found["costs"], found["chosen"]
    places = {0, chosen, len(points) - 1}
    for share in SHOWN:
        places.add(min(range(len(points)), key=lambda place: abs(points[place]["share"] - share)))
    rows = []
    for place in sorted(places):
        joules = costs[place]["joules"]
        cells = [
            percent(points[place]["share"]),
            f"{100 * min(1.0, points[place]['threshold']):.0f}%",
            percent(points[place]["accuracy"]),
            f"{costs[place]['milliseconds']:.3g}",
            "–" if joules is None else joules_text(joules),
        ]
        rows.append([f"**{cell}**" if place == chosen else cell for cell in cells])
    head = ["Sent", "Where less sure than", "Accuracy", "Milliseconds", "Energy"]
    energy = report["quality"][found["student"]]["energy"]
    how = (
        f"Milliseconds are the student's, and for what is sent the teacher's (here, at batch 1) and"
        f" a round trip of {found['round_trip_ms']:g} ms (`cascade.round_trip_ms`, an assumption)"
        f" besides. Energy, of device and server together: {energy['source']}."
    )
    return f"{table(head, rows, left=0)}\n\n{how}"
