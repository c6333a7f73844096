"""What a search found, for report.md and TensorBoard."""

from collections.abc import Callable

from fedlite.base.records import METRIC_NAMES, Metric
from fedlite.report.artefacts import milliseconds
from fedlite.report.parts import code, plain, table
from fedlite.report.schema import SearchMeasure, SearchSection
from fedlite.report.words import human_bytes, human_seconds, score_text, sentence_case


def search_markdown(search: SearchSection) -> str:
    """What a search found against the hand-set default, what it chose, and what it took.

    Args:
        search: the report's ``search`` (docs/report.md).
    """
    text = plain(search["text"])
    said = text if search["reached"] else f"**Not reached**: {text}"
    sides = {"Hand-set default": search["default"], "Found": search["best"]}
    found = {label: side for label, side in sides.items() if side}
    columns = _columns(search.get("metric", "accuracy"))
    shown = [name for name in columns if any(name in side for side in found.values())]

    def cell(side: dict[SearchMeasure, float], name: SearchMeasure) -> str:
        _, words = columns[name]
        return words(side[name]) if name in side else "–"

    rows = [[label, *(cell(side, name) for name in shown)] for label, side in found.items()]
    beside = table(["", *(columns[name][0] for name in shown)], rows)
    chosen = ", ".join(code(f"{option}={value}") for option, value in search["chosen"].items())
    took = f"{search['trials']} trials in {human_seconds(search['seconds'])}. Chosen: {chosen}."
    return "\n\n".join([said, beside, took])


def _columns(metric: Metric) -> dict[SearchMeasure, tuple[str, Callable[[float], str]]]:
    """Head and words of each number."""
    return {
        "accuracy": (
            f"{sentence_case(METRIC_NAMES[metric])} (public data)",
            lambda score: score_text(score, metric),
        ),
        "latency_ms": ("Latency ms, batch 1", milliseconds),
        "bytes": ("Bytes", human_bytes),
        "parameters": ("Parameters", "{:,}".format),
    }
