"""fedlite: private federated distillation of a shared teacher into a small student that ships.

    run = fedlite.simulate("privacy.epsilon=4", dir="out")
    run.report, run.student(), run.spent(), run.ledgers()

What is here is imported when it is first used, so that ``import fedlite`` costs next to nothing.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from fedlite.base.version import __version__ as __version__

if TYPE_CHECKING:
    from fedlite.base.errors import FedliteError, UsageError
    from fedlite.runs.front import load_run, load_splits, plan, predict, simulate, verify
    from fedlite.runs.handle import Run

_HOMES = {
    "fedlite.base.errors": ("FedliteError", "UsageError"),
    "fedlite.runs.front": ("load_run", "load_splits", "plan", "predict", "simulate", "verify"),
    "fedlite.runs.handle": ("Run",),
}
__all__ = [
    "FedliteError",
    "Run",
    "UsageError",
    "load_run",
    "load_splits",
    "plan",
    "predict",
    "simulate",
    "verify",
]

# Private data and libraries that call home do not go together: off unless the user turns it on.
for _switch, _off in (("FLWR_TELEMETRY_ENABLED", "0"), ("ORT_DISABLE_TELEMETRY", "1")):
    os.environ.setdefault(_switch, _off)


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'fedlite' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
