"""One run as one row of TensorBoard's HParams tab: its options and what came out of them."""

from typing import Any

from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb
from tensorboard.plugins.hparams.summary_v2 import (
    HParam,
    Metric,
    hparams_config_pb,
    hparams_pb,
)

from fedlite.tracking.words import Report, final_model, gain

OPTIONS = (  # every run declares the same columns, so that any two runs can be compared
    "dataset.name",
    "partition.name",
    "partition.alpha",
    "student.name",
    "teacher.name",
    "distill.alpha",
    "distill.temperature",
    "privacy.unit",
    "privacy.epsilon",
    "privacy.max_grad_norm",
    "privacy.sample_rate",
    "federation.num_clients",
    "federation.rounds",
    "federation.fraction",
    "federation.local_steps",
    "federation.learning_rate",
    "federation.strategy.name",
    "compress.ratio",
    "compress.sparsity",
    "compress.quantization",
    "seed",
)

METRICS = {  # tag of a scalar -> the column's title
    "final/accuracy": "accuracy (final model)",
    "final/accuracy_federated_student": "accuracy (federated)",
    "final/accuracy_public_student": "accuracy (public only)",
    "final/points_bought": "points bought",
    "final/epsilon_max": "epsilon (max)",
    "final/bytes": "bytes (final model)",
    "final/latency_ms_p50": "latency p50 (ms)",
}


def option_values(config: dict[str, Any]) -> dict[str, bool | float | str]:
    """The values of ``OPTIONS`` in a resolved configuration; those that are null are left out."""
    values = {}
    for option in OPTIONS:
        value: Any = config
        for part in option.split("."):
            value = value[part]
        if value is not None:
            values[option] = value
    return values


def metric_values(report: Report) -> dict[str, float]:
    """The values of ``METRICS`` in a report; what a run does not have is left out."""
    models, values = report["models"], {}
    if final := final_model(report):
        values["final/accuracy"] = models[final]["accuracy"]
        values["final/bytes"] = models[final]["bytes"]
        values["final/latency_ms_p50"] = models[final]["latency_ms"]["p50"]
    for key in ("federated_student", "public_student"):
        if key in models:
            values[f"final/accuracy_{key}"] = models[key]["accuracy"]
    if (bought := gain(report)) is not None:
        values["final/points_bought"] = 100 * bought
    if units := report["privacy"]["units"]:
        values["final/epsilon_max"] = units[0]["epsilon_max"]
    return values


def session_summaries(report: Report) -> list[Any]:
    """The three summaries that make a run one row: columns, values, end.

    The run's id names the row, so two runs with equal options stay two rows.
    """
    columns = [HParam(option) for option in OPTIONS]
    metrics = [Metric(tag, display_name=title) for tag, title in METRICS.items()]
    return [
        hparams_config_pb(hparams=columns, metrics=metrics),
        hparams_pb(option_values(report["config"]), trial_id=str(report["run"]["run_id"])),
        session_end_pb(api_pb2.STATUS_SUCCESS),
    ]
