"""What the page says of its model: a few of the report's numbers, and the guarantee in short."""

from typing import Any

from fedlite.report.card import latencies_of, measures_of, wilson_interval
from fedlite.report.words import epsilon_text, is_private, not_private_reason


def page_facts(report: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The facts for :func:`fedlite.demo.page.write_demo`, ready for JSON.

    Keys: ``dataset``, ``student``, ``example`` (what one is), ``file`` (``bytes``, ``precision``),
    ``accuracy`` (``value``, ``low`` and ``high`` of the 95% interval, ``examples``; None where it
    was not measured), ``native`` (``milliseconds`` at batch 1 and ``runtime``, or None),
    ``privacy`` (``holds`` and ``text``).

    Args:
        report: the run's report (docs/report.md).
        entry: what the bundle's manifest says of the model.
    """
    measures, tests = measures_of(entry, report), report["dataset"]["test"]
    accuracy = native = None
    if measures:
        low, high = wilson_interval(measures["accuracy"], tests)
        accuracy = {"value": measures["accuracy"], "low": low, "high": high, "examples": tests}
    if (latency := latencies_of(measures).get("1")) is not None:
        native = {"milliseconds": latency["p50"], "runtime": measures["runtime"]}
    privacy = report["privacy"]
    return {
        "dataset": report["dataset"]["name"],
        "student": report["config"]["student"]["name"],
        "example": privacy["protects"],
        "file": {"bytes": entry["bytes"], "precision": entry["precision"]},
        "accuracy": accuracy,
        "native": native,
        "privacy": {"holds": is_private(privacy), "text": short_statement(privacy)},
    }


def short_statement(privacy: dict[str, Any]) -> str:
    """The guarantee in one or two sentences of plain text.

    Args:
        privacy: the ``privacy`` part of the report.
    """
    if not is_private(privacy):
        return f"Not private: {not_private_reason(privacy)}."
    spent = " and ".join(
        f"epsilon {epsilon_text(unit['epsilon_max'])} at delta {unit['delta']:g} for"
        f" {'all data of one client' if unit['unit'] == 'client' else privacy['protects']}"
        f" ({unit['unit']}-level, trust: {unit['trust']})"
        for unit in privacy["units"]
    )
    return (
        f"Trained with differential privacy: {spent}. This bounds what anybody can tell from the"
        " model about whether one of them was used. What the numbers mean, and what they do not"
        " cover, the model card says."
    )
