"""What the page says of its model: a few of the report's numbers, and the guarantee in short."""

from typing import TypedDict

from fedlite.base.intervals import wilson_interval
from fedlite.report.card import ManifestEntry, latencies_of, measures_of
from fedlite.report.schema import PrivacySection, Report
from fedlite.report.words import epsilon_text, is_private, not_private_reason


class FileFacts(TypedDict):
    """The model's file."""

    bytes: int
    precision: str


class AccuracyFacts(TypedDict):
    """Accuracy on so many test ``examples``, with its 95% interval."""

    value: float
    low: float
    high: float
    examples: int


class NativeFacts(TypedDict):
    """Median milliseconds at batch 1 in a runtime outside the browser."""

    milliseconds: float
    runtime: str


class PrivacyFacts(TypedDict):
    """Whether the guarantee holds, and what it says."""

    holds: bool
    text: str


class PageFacts(TypedDict):
    """What the page says of its model; ``example`` is what one example is.

    ``accuracy`` and ``native`` are None where they were not measured.
    """

    dataset: str
    student: str
    example: str
    file: FileFacts
    accuracy: AccuracyFacts | None
    native: NativeFacts | None
    privacy: PrivacyFacts


def page_facts(report: Report, entry: ManifestEntry) -> PageFacts:
    """The facts for :func:`fedlite.demo.page.write_demo`, ready for JSON.

    Args:
        report: the run's report (docs/report.md).
        entry: what the bundle's manifest says of the model.
    """
    measures, tests = measures_of(entry, report), report["dataset"]["test"]
    accuracy: AccuracyFacts | None = None
    native: NativeFacts | None = None
    if measures:
        low, high = wilson_interval(measures["accuracy"], tests)
        accuracy = {"value": measures["accuracy"], "low": low, "high": high, "examples": tests}
    if measures and (latency := latencies_of(measures).get("1")):
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


def short_statement(privacy: PrivacySection) -> str:
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
