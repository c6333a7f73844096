"""One run as one row of TensorBoard's HParams tab: its options and what came out of them."""

import json
from collections.abc import Mapping
from typing import Any

from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from torch.utils.tensorboard.summary import hparams

from fedlite.report.schema import Report
from fedlite.report.words import final_model, gain_over_public, metric_of

# The HParams tab shows the first five metrics in string order, where "10_" comes before "1_"; the
# other tabs order groups as numbers, so that these single points come last there.
RESULT = "10_result"


def result_values(report: Report) -> dict[str, float]:
    """What came out of a run, by tag; what a run does not have is left out."""
    models, values = report["models"], {}
    if final := final_model(report):
        values["accuracy"] = models[final]["accuracy"]
        if metric_of(report) == "macro_f1":
            values["macro_f1"] = models[final]["macro_f1"]
        values["bytes"] = models[final]["bytes"]
        values["latency_ms_p50"] = models[final]["latency_ms"]["p50"]
    if (bought := gain_over_public(report)) is not None:
        values["points_over_public_student"] = 100 * bought
    for unit in report["privacy"]["units"]:
        name = "epsilon_max" if unit["unit"] == "example" else "client_level_epsilon"
        values[name] = unit["epsilon_max"]
    return {f"{RESULT}/{name}": value for name, value in values.items()}


def session_summaries(report: Report, swept: Mapping[str, str]) -> list[Any]:
    """The two summaries that make a run one row: its options and its end.

    A job of a sweep shows the ``swept`` options alone, so that its results are the next columns;
    any other run shows those that are not as they are by default.
    The run's id names the row, so two runs with equal options stay two rows. No columns are
    declared: TensorBoard then gathers them itself and puts the options that differ first.
    """
    values = {option: _typed(text) for option, text in swept.items()}
    if not values:
        values = {option: _plain(value) for option, value in report["changed"].items()}
    *_, end = hparams({}, {})  # type: ignore[no-untyped-call]
    start = hparams_pb(values, trial_id=report["run"]["run_id"])
    return [start, end]


def _plain(value: object) -> bool | float | str:
    """A value of the kinds that a column holds."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _typed(text: str) -> bool | float | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text
