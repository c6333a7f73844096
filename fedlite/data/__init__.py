"""Where examples come from, who holds which, and the public and private data types."""

import os

# Private data and a home-calling library do not go together: off unless the user turns it on.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from fedlite.data.splits import Splits, load_splits
from fedlite.data.types import ClientData, PublicData, Task, TestData

__all__ = ["ClientData", "PublicData", "Splits", "Task", "TestData", "load_splits"]
