"""The options of what is shown while a run goes on."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from fedlite.base.options import NEUTRAL, Doc, Options
from fedlite.report.trackers import TRACKERS


@dataclass(frozen=True)
class TrackingOptions(Options):
    """What is shown while a run goes on."""

    progress: Annotated[bool, NEUTRAL, Doc("bars on a terminal, lines elsewhere")] = True
    tensorboard: Annotated[bool, NEUTRAL, Doc("write TensorBoard's events")] = True
    tracker: Annotated[str, NEUTRAL, TRACKERS, Doc("tell an experiment tracker the same")] = "none"
    project: Annotated[str, NEUTRAL, Doc("MLflow's experiment, W&B's project")] = "fedlite"
    evaluate_every: Annotated[int, Ge(1), Doc("rounds between evaluations on the test set")] = 1
