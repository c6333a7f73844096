"""The cascade's section of the report: the threshold that the options wish for, and its costs."""

from fedlite.distill.cascade import ROUNDING, Point, choose_point
from fedlite.distill.options import CascadeOptions
from fedlite.report.cascade import cascade_costs, comparable_joules
from fedlite.report.quality_sections import CascadeSection
from fedlite.runs.facts import EvaluateFacts


def cascade_section(facts: EvaluateFacts, options: CascadeOptions) -> CascadeSection:
    """The section ``cascade``; chosen on public data, costs as the files were measured.

    Args:
        facts: of the evaluation, with ``cascade``.
        options: what is wished for.
    """
    found, quality = facts["cascade"], facts["quality"]
    public = [Point(**one) for one in found["public"]]
    chosen = choose_point(public, options)
    wished = options.accuracy
    student, teacher = (
        facts["artefacts"][found["student"]]["cost"],
        facts["models"]["teacher"]["cost"],
    )
    latencies = student["latency_ms"]["1"]["p50"], teacher["latency_ms"]["1"]["p50"]
    joules = comparable_joules(quality[found["student"]], quality[found["teacher"]])
    return {
        **found,
        "chosen": chosen,
        "reached": wished is None or public[chosen].accuracy >= wished - ROUNDING,
        "wished_share": options.share,
        "wished_accuracy": wished,
        "costs": cascade_costs(found["test"], latencies, joules, options.round_trip_ms),
        "round_trip_ms": options.round_trip_ms,
    }
