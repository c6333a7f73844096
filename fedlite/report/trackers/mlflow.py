"""MLflow: a run of its own, in the store that ``MLFLOW_TRACKING_URI`` names (default: MLflow's)."""

import os
import time
from collections.abc import Mapping

from fedlite.base.errors import FedliteError
from fedlite.report.events import TrackedRun

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
_TAG, _PARAMETERS, _METRICS = "fedlite.run_id", 100, 1000  # what one request may hold


class MLflowTracker:
    """One run in MLflow; see :class:`fedlite.report.events.Tracker`."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        try:
            self._client = MlflowClient()
            known = self._client.get_experiment_by_name(run.project)
            shelf = known.experiment_id if known else self._client.create_experiment(run.project)
            found = self._client.search_runs([shelf], f"tags.`{_TAG}` = '{run.run_id}'")
            if found:
                self._id = found[0].info.run_id
                self._client.update_run(self._id, status="RUNNING")
                return
            made = self._client.create_run(shelf, run_name=run.name, tags={_TAG: run.run_id})
            self._id = made.info.run_id
            options = [Param(key, str(value)) for key, value in run.options.items()]
            for first in range(0, len(options), _PARAMETERS):
                self._client.log_batch(self._id, params=options[first : first + _PARAMETERS])
        except MlflowException as error:
            reason = str(error).splitlines()[0]
            raise FedliteError(
                f"tracking.tracker=mlflow: {reason} (MLFLOW_TRACKING_URI)"
            ) from error

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Metrics under TensorBoard's tags."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(tag, value, now, step) for tag, value in scalars.items()]
        for first in range(0, len(metrics), _METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + _METRICS])

    def close(self, ok: bool) -> None:
        """Finished, or failed."""
        self._client.set_terminated(self._id, "FINISHED" if ok else "FAILED")


def open_tracker(run: TrackedRun) -> MLflowTracker:
    """The run in MLflow, made or, after a resume, found again.

    Raises:
        ImportError: the library is not installed.
        FedliteError: its store cannot be used.
    """
    return MLflowTracker(run)
