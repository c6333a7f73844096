"""Made-up fleets, whose numbers are easy to work out."""

from typing import Any

from fedlite.federation.fleet import Fleet, Work
from fedlite.federation.options import DeviceClass, FleetOptions

# At 1 GFLOP/s and 8 Mbit/s each way: a second down, 2 s of work, 3 s up; 4 and 5 s more at first.
WORK = Work(
    flops=2e9, bytes_down=1_000_000, bytes_up=3_000_000, first_flops=5e9, first_bytes_down=4_000_000
)


def device(**changes: Any) -> DeviceClass:
    """A device on which ``WORK`` takes whole seconds: 2 W while it computes, 1 W on the radio."""
    plain = {"gflops": 1, "downlink_mbps": 8, "uplink_mbps": 8}
    return DeviceClass(**{**plain, "compute_watts": 2, "radio_watts": 1, **changes})


def make_fleet(
    num_clients: int,
    hidden_rate: float | None = None,
    seed: int = 0,
    classes: dict[str, DeviceClass] | None = None,
    **options: Any,
) -> Fleet:
    """Clients of one class, all there, of exactly equal times, unless said otherwise."""
    plain: dict[str, Any] = {"spread": 0.0, "overhead_s": 0.0, **options}
    chosen = FleetOptions(classes={"any": device()} if classes is None else classes, **plain)
    return Fleet(chosen, seed, num_clients, WORK, hidden_rate)
