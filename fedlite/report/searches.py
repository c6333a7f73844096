"""What a search found, for report.md and TensorBoard."""

from collections.abc import Callable

from fedlite.report.artefacts import milliseconds
from fedlite.report.schema import SearchMeasure, SearchSection
from fedlite.report.words import human_bytes, human_seconds, percent

_MEASURES: dict[SearchMeasure, tuple[str, Callable[[float], str]]] = {  # head and words of a number
    "accuracy": ("Accuracy (public data)", percent),
    "latency_ms": ("Latency ms, batch 1", milliseconds),
    "bytes": ("Bytes", human_bytes),
    "parameters": ("Parameters", "{:,}".format),  # of students
}


def search_markdown(search: SearchSection) -> str:
    """What a search found against the hand-set default, what it chose, and what it took.

    Args:
        search: the report's ``search`` (docs/report.md).
    """
    text = search["text"] if search["reached"] else f"**Not reached**: {search['text']}"
    sides = {"Hand-set default": search["default"], "Found": search["best"]}
    rows = {label: found for label, found in sides.items() if found}
    shown = [name for name in _MEASURES if any(name in found for found in rows.values())]
    lines = [["", *(_MEASURES[name][0] for name in shown)], [":--", *["--:"] * len(shown)]]
    lines += [[label, *(_cell(found, name) for name in shown)] for label, found in rows.items()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    chosen = ", ".join(f"`{option}={value}`" for option, value in search["chosen"].items())
    took = f"{search['trials']} trials in {human_seconds(search['seconds'])}. Chosen: {chosen}."
    return "\n\n".join([text, table, took])


def _cell(found: dict[SearchMeasure, float], name: SearchMeasure) -> str:
    return _MEASURES[name][1](found[name]) if name in found else "–"
