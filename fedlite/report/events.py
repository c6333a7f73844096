"""TensorBoard's events of a run, and the tracker that is told the same under the same tags."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run when it begins, or goes on.

    ``run_id`` is the same after a resume, ``project`` names the shelf that it stands on.
    ``options`` are those that decide its result, by their full key; no paths are among them.
    """

    run_id: str
    name: str
    project: str
    directory: Path
    options: Mapping[str, Any]


class Tracker(Protocol):
    """An experiment tracker while a run is open in it."""

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Numbers by TensorBoard's tags; ``step`` is the round, 0 before the first."""

    def close(self, ok: bool) -> None:
        """End the run there; ``ok`` is False where it broke off."""


class _Nowhere:
    """A file of events that is not written."""

    def __init__(self, log_dir: str) -> None:
        self._log_dir = log_dir

    def get_logdir(self) -> str:
        return self._log_dir

    def add_event(self, *_: Any, **__: Any) -> None:
        pass

    add_summary = add_graph = flush = close = reopen = add_event


class Events(SummaryWriter):
    """A writer whose scalars go to a tracker too.

    Args:
        log_dir: where the event file goes.
        purge_step: as in torch's ``SummaryWriter``.
        tracker: told every scalar; the writer does not close it.
        written: False writes no event file.
    """

    def __init__(
        self,
        log_dir: Path,
        purge_step: int | None,
        tracker: Tracker | None = None,
        *,
        written: bool = True,
    ) -> None:
        self._tracker, self._written = tracker, written
        self._pending: dict[int, dict[str, float]] = {}
        super().__init__(str(log_dir), purge_step=purge_step)

    def _get_file_writer(self) -> Any:
        if self._written:
            return super()._get_file_writer()  # type: ignore[no-untyped-call]
        if self.file_writer is None:
            nowhere: Any = _Nowhere(self.log_dir)
            writers: Any = {self.log_dir: nowhere}
            self.file_writer, self.all_writers = nowhere, writers
        return self.file_writer

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """As torch's; the tracker is told of a step's scalars together, when they are flushed."""
        super().add_scalar(tag, scalar_value, global_step, *args, **kwargs)
        self._pending.setdefault(global_step or 0, {})[tag] = float(scalar_value)

    def flush(self) -> None:
        """Write what has come, here and to the tracker."""
        super().flush()
        pending, self._pending = self._pending, {}
        if self._tracker is not None:
            for step, scalars in sorted(pending.items()):
                self._tracker.log(scalars, step)

    def close(self) -> None:
        """Flush, and close the event file."""
        self.flush()
        super().close()
