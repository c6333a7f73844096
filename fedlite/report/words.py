"""How a report's numbers and models are named and formatted, the same wherever they are shown."""

import math

from fedlite.base.records import Metric, ModelKey
from fedlite.report.schema import ArtefactEntry, PrivacySection, Report
from fedlite.serve.runtime import kinds

NOT_PRIVATE = "NOT PRIVATE"

MODEL_LABELS: dict[ModelKey, str] = {  # in the order of the pipeline
    "teacher": "Teacher",
    "public_student": "Student, public only",
    "federated_student": "Student, federated",
    "folded_student": "Student, norms folded",
    "pruned_student": "Student, pruned",
    "quantized_student": "Student, quantized",
}
# Beside the formats, what they are up against.
FORMAT_LABELS = {"torch": "PyTorch, eager"} | {name: kind.label for name, kind in kinds().items()}
PUBLIC_MODELS: tuple[ModelKey, ...] = ("teacher", "public_student")  # these never saw private data


def percent(share: float) -> str:
    """A share of 1 as a percentage with one decimal: ``0.8125 -> '81.2%'``."""
    return f"{100 * share:.1f}%"


def score_text(score: float, metric: Metric) -> str:
    """A score as it is usual: ``'81.2%'`` of an accuracy, ``'0.812'`` of a macro-F1."""
    return percent(score) if metric == "accuracy" else f"{score:.3f}"


def gain_text(gain: float, metric: Metric) -> str:
    """A difference of scores: ``'+1.2 points'`` of accuracies, ``'+0.012'`` of macro-F1s."""
    if metric == "accuracy":
        return f"{round(100 * gain, 1) + 0.0:+.1f} points"  # no minus before zero
    return f"{round(gain, 3) + 0.0:+.3f}"


def sentence_case(words: str) -> str:
    """``words`` at the beginning of a sentence: ``'macro-F1' -> 'Macro-F1'``."""
    return words[:1].upper() + words[1:]


def human_bytes(count: float) -> str:
    """A number of bytes in decimal units: ``61234 -> '61.2 kB'``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_seconds(seconds: float) -> str:
    """A duration in at most two units: ``3.21 -> '3.2 s'``, ``75 -> '1 min 15 s'``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def epsilon_text(epsilon: float) -> str:
    """An epsilon with two decimals, rounded up: what is shown never understates what was spent."""
    if math.isinf(epsilon):
        return "infinite"
    return f"{math.ceil(epsilon * 100 - 1e-9) / 100:.2f}"


def epsilons_text(privacy: PrivacySection) -> str:
    """What a run spent of every client at most, by unit of privacy."""
    if not is_private(privacy):
        return NOT_PRIVATE
    return ", ".join(epsilon_text(unit["epsilon_max"]) for unit in privacy["units"])


def is_private(privacy: PrivacySection) -> bool:
    """Whether the guarantee holds at all: trained with DP and with secret randomness."""
    return privacy["private"] and privacy["randomness"] == "secure"


def not_private_reason(privacy: PrivacySection) -> str:
    """Why :func:`is_private` is false, as the rest of a sentence after "NOT PRIVATE: "."""
    if not privacy["private"]:
        return "trained without differential privacy (privacy=none)"
    return "deterministic randomness: whoever knows the seed can take the noise off again"


def artefacts_of(report: Report) -> list[ArtefactEntry]:
    """The report's ``artefacts``; empty where nothing was compressed."""
    return report.get("artefacts") or []


def shipped(report: Report) -> dict[str, str]:
    """By format, the name of the artefact that lies in the deployable folder."""
    return report.get("compression", {}).get("shipped", {})


def final_model(report: Report) -> ModelKey | None:
    """The key of the model that ships as ONNX, else of the last that the report holds."""
    for artefact in artefacts_of(report):
        if artefact["name"] == shipped(report).get("onnx"):
            return artefact["model"]
    present = [key for key in MODEL_LABELS if key in report["models"]]
    return present[-1] if present else None


def model_labels(report: Report) -> dict[ModelKey, str]:
    """:data:`MODEL_LABELS` as this report may use them: what was not pruned is not called so."""
    made = report.get("compression")
    if made is None or made["sparsity"] > 0:
        return MODEL_LABELS
    if made["parameters_after"] < made["parameters_folded"]:
        return MODEL_LABELS
    return MODEL_LABELS | {"pruned_student": "Student, not pruned"}


def gain_over_public(report: Report) -> float | None:
    """Accuracy of the federated student minus that of the public-only student."""
    models = report["models"]
    if "federated_student" not in models or "public_student" not in models:
        return None
    return models["federated_student"]["accuracy"] - models["public_student"]["accuracy"]


def metric_of(report: Report) -> Metric:
    """What the run's models are judged by."""
    metric: Metric = report.get("config", {}).get("dataset", {}).get("metric", "accuracy")
    return metric


def tested_on(report: Report) -> str:
    """What the examples are that all evaluations are on, as an adjective."""
    return tested_words(report["dataset"].get("evaluated_on", "test"))


def tested_words(evaluate_on: str) -> str:
    """The same of the option ``dataset.evaluate_on``."""
    return "held-out training" if evaluate_on == "holdout" else "test"
