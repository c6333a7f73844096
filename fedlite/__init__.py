"""fedlite: private federated distillation of a shared teacher into a small student that ships."""

import os

__version__ = "0.1.0"

# Private data and libraries that call home do not go together: off unless the user turns it on.
for _switch, _off in (("FLWR_TELEMETRY_ENABLED", "0"), ("ORT_DISABLE_TELEMETRY", "1")):
    os.environ.setdefault(_switch, _off)
