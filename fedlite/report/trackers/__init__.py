"""Where else a run's numbers go: experiment trackers, each through its own library.

A tracker is a module here, named as its library is, whose ``open_tracker`` gives a
``fedlite.report.events.Tracker``. The library is imported when a run asks for it, and not before.
"""

from fedlite.base.named import Named

TRACKERS = Named("tracking.tracker", "fedlite.report.trackers", "open_tracker")
