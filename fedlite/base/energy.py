"""Joules of an inference: read from the processor's counters, or estimated from its operations."""

import time
from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
LEAST_SECONDS = 0.5  # of calls between two readings: counters move every millisecond or so

# Picojoules of a multiplication and an addition (integers add up in 32 bits), in 45 nm at 0.9 V:
# Horowitz (2014), "Computing's energy problem (and what we can do about it)", ISSCC, figure 1.1.9.
PICOJOULES = {"fp32": 3.7 + 0.9, "fp16": 1.1 + 0.4, "int8": 0.2 + 0.1}
ESTIMATE = (
    "an estimate, not measured: multiplications and additions alone, at the picojoules of Horowitz"
    " (2014) for 45 nm; memory, idle power and radio come on top"
)
MEASURED = "measured by the processor's own counters (RAPL): the whole package, idle power included"


def estimated_joules(operations: float, precision: str) -> float:
    """What the arithmetic of one inference takes at least.

    Args:
        operations: multiplications, each with an addition.
        precision: ``fp32``, ``fp16`` or ``int8``; what has smaller weights alone (``int4 weights``)
            computes in fp32.
    """
    return 1e-12 * operations * PICOJOULES.get(precision, PICOJOULES["fp32"])


def read_joules(root: Path = POWERCAP) -> dict[str, tuple[float, float]] | None:
    """Joules that each processor package has counted, and where its counter starts anew.

    None where the system has no such counters (Intel's and AMD's, on Linux), or lets only root read
    them.
    """
    found = {}
    try:
        for zone in sorted(root.glob("intel-rapl:*")):
            if (zone / "name").read_text().startswith("package"):
                counted, full = (
                    1e-6 * int((zone / name).read_text())
                    for name in ("energy_uj", "max_energy_range_uj")
                )
                found[zone.name] = (counted, full)
    except (OSError, ValueError):
        return None
    return found or None


def measured_joules(call: Callable[[], object], root: Path = POWERCAP) -> float | None:
    """Joules of one ``call``, from calls of half a second; None where nothing can be read."""
    before, start, calls = read_joules(root), time.perf_counter(), 0
    if before is None:
        return None
    while time.perf_counter() - start < LEAST_SECONDS:
        call()
        calls += 1
    after = read_joules(root)
    if after is None or after.keys() != before.keys():
        return None
    return (
        sum(
            (after[name][0] - counted) % full if full else after[name][0] - counted
            for name, (counted, full) in before.items()
        )
        / calls
    )
