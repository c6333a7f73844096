"""No tracker."""

from fedlite.report.events import TrackedRun


def open_tracker(run: TrackedRun) -> None:
    """Nothing to tell."""
