"""Weights & Biases; ``WANDB_MODE=offline`` keeps its files in the run directory, to be synced."""

from collections.abc import Mapping

from fedlite.base.errors import FedliteError
from fedlite.report.events import TrackedRun

_PATIENCE = 20.0  # seconds to wait for a server
_ROUND = "round"


class WandbTracker:
    """One run in Weights & Biases; see :class:`fedlite.report.events.Tracker`.

    It is told numbers and options alone: nothing of the machine, of code, or of the terminal.
    """

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            init_timeout=_PATIENCE,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        )
        try:
            self._run = wandb.init(
                project=run.project,
                name=run.name,
                id=run.run_id,
                resume="allow",
                dir=run.directory,
                config=dict(run.options),
                settings=settings,
            )
        except wandb.Error as error:
            reason = str(error).splitlines()[0]
            raise FedliteError(
                f"tracking.tracker=wandb: {reason} (WANDB_MODE=offline needs no server)"
            ) from error
        self._run.define_metric("*", step_metric=_ROUND)  # W&B's own steps only ever grow

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Metrics under TensorBoard's tags."""
        self._run.log({**scalars, _ROUND: step})

    def close(self, ok: bool) -> None:
        """Finished, or failed."""
        self._run.finish(exit_code=0 if ok else 1)


def open_tracker(run: TrackedRun) -> WandbTracker:
    """The run in Weights & Biases, made or, after a resume, gone on with.

    Raises:
        ImportError: the library is not installed.
        FedliteError: its server cannot be used.
    """
    return WandbTracker(run)
