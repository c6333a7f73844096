"""What a search found, for report.md and TensorBoard."""

from typing import Any

from fedlite.tracking.artefacts import milliseconds
from fedlite.tracking.words import human_bytes, human_seconds, percent

_MEASURES = {"accuracy": percent, "latency_ms": milliseconds, "bytes": human_bytes}
_HEADS = ("Accuracy (public data)", "Latency ms, batch 1", "Bytes")
_ROWS = {"default": "Hand-set default", "best": "Found"}


def search_markdown(search: dict[str, Any]) -> str:
    """What a search found against the hand-set default, what it chose, and what it took.

    Args:
        search: the report's ``search`` (docs/report.md).
    """
    text = search["text"] if search["reached"] else f"**Not reached**: {search['text']}"
    lines = [["", *_HEADS], [":--", *["--:"] * len(_HEADS)]]
    for key, label in _ROWS.items():
        if found := search.get(key):
            lines.append([label, *(_cell(found.get(one), one) for one in _MEASURES)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    chosen = ", ".join(f"`{option}={value}`" for option, value in search["chosen"].items())
    took = f"{search['trials']} trials in {human_seconds(search['seconds'])}. Chosen: {chosen}."
    return "\n\n".join([text, table, took])


def _cell(value: float | None, measure: str) -> str:
    return "–" if value is None else _MEASURES[measure](value)
