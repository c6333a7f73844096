"""The tracker of a run: looked for, opened, and kept from ending the run."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from fedlite.base.errors import UsageError
from fedlite.report.events import TrackedRun, Tracker
from fedlite.report.trackers import TRACKERS


class Forgiving:
    """A tracker whose failures do not end the run: the first is told, and it is told no more.

    Args:
        tracker: the one behind it.
        warn: called once, with a line.
    """

    def __init__(self, tracker: Tracker, warn: Callable[[str], None]) -> None:
        self._tracker, self._warn, self._failed = tracker, warn, False

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """As the tracker's; it never raises."""
        if not self._failed:
            self._try(lambda: self._tracker.log(scalars, step))

    def close(self, ok: bool) -> None:
        """As the tracker's; it never raises."""
        self._try(lambda: self._tracker.close(ok))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # each library has errors of its own, and none is the run's
            if not self._failed:
                said = " ".join(str(error).split()) or type(error).__name__
                self._warn(f"the tracker failed and is told no more; the run goes on: {said}")
            self._failed = True


def open_tracker(name: str, run: TrackedRun) -> Tracker | None:
    """The run in the tracker of this name, made or, after a resume, gone on with; None of ``none``.

    Raises:
        UsageError: its library is not installed.
        FedliteError: its store or server cannot be used.
    """
    try:
        tracker: Tracker | None = TRACKERS.find(name)(run)
    except ImportError as error:
        raise _not_installed(name, error.name) from error
    return tracker


def require_library(name: str) -> None:
    """Look for the library of a tracker, without importing it.

    Raises:
        UsageError: it is not installed.
    """
    if name in TRACKERS.names() and name != "none" and find_spec(name) is None:
        raise _not_installed(name, name)


def _not_installed(name: str, library: str | None) -> UsageError:
    extra = f"; pip install 'fedlite[{name}]'" if name in TRACKERS.names() else ""
    return UsageError(f"tracking.tracker={name}: {library} is not installed{extra}")
