"""Epsilon of a history of Poisson-sampled Gaussian steps, and the noise a budget allows.

A history is a sequence of segments ``(noise_multiplier, sample_rate, steps)``. Composition does
not depend on order, so equal segments are merged: PRV costs time per segment. The accountants are
Opacus': ``prv`` (Gopi, Lee, Wutschitz 2021, an upper bound with error 0.01) and ``rdp`` (Mironov,
Talwar, Zhang 2019). Neighbours: add or remove one example.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp as opacus_rdp

from fedlite.errors import UsageError

# The RDP of one step is a pure function of (sample rate, noise multiplier, order) that Opacus
# works out anew in every call, PRV's included; remembering it makes a round's epsilon ten times
# cheaper (scripts/bench_accounting.py).
opacus_rdp._compute_rdp = lru_cache(maxsize=65536)(opacus_rdp._compute_rdp)

# Opacus stops at order 63, where no epsilon below 0.13 can be shown at delta 1e-5.
LARGE_ORDERS = [80, 96, 128, 192, 256, 384, 512, 1024]
RDP_ORDERS = [*RDPAccountant.DEFAULT_ALPHAS, *LARGE_ORDERS]
INTEGER_ORDERS = [*range(2, 64), *LARGE_ORDERS]  # enough to bracket; fractional ones are slow

Segment = tuple[float, float, int]

EPSILON_TOLERANCE = 0.01
LARGEST_PRV_EPSILON = 300.0  # beyond, PRV's grid takes gigabytes; RDP's bound holds as well
MAX_NOISE_MULTIPLIER = 1e5


def merge_segments(history: Iterable[Segment]) -> tuple[Segment, ...]:
    """Add up the steps of equal (noise multiplier, sample rate) pairs, in a fixed order."""
    steps: Counter[tuple[float, float]] = Counter()
    for noise_multiplier, sample_rate, count in history:
        steps[noise_multiplier, sample_rate] += count
    return tuple((z, q, n) for (z, q), n in sorted(steps.items()) if n > 0)


def compute_epsilon(history: Iterable[Segment], delta: float, accountant: str) -> float:
    """Epsilon spent by ``history`` at ``delta`` by ``accountant`` (prv or rdp); 0 when empty.

    A noise multiplier of 0 gives infinity.
    """
    return _epsilon(merge_segments(history), delta, accountant)


@lru_cache(maxsize=4096)
def _epsilon(merged: tuple[Segment, ...], delta: float, accountant: str) -> float:
    if not merged:
        return 0.0
    if any(noise_multiplier == 0 for noise_multiplier, _, _ in merged):
        return math.inf
    if accountant == "rdp":
        return _rdp_epsilon(merged, delta, RDP_ORDERS)
    bound = _rdp_epsilon(merged, delta, INTEGER_ORDERS)
    if bound > LARGEST_PRV_EPSILON:
        return bound
    engine = PRVAccountant()
    engine.history = list(merged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # log(0) at the edge of the loss's support, masked after
        return float(engine.get_epsilon(delta=delta))


def _rdp_epsilon(history: Sequence[Segment], delta: float, orders: list[float]) -> float:
    engine = RDPAccountant()
    engine.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the best order may be the smallest or largest tried
        return float(engine.get_epsilon(delta=delta, alphas=orders))


def calibrate_noise_multiplier(
    *, epsilon: float, delta: float, sample_rate: float, steps: int, accountant: str
) -> float:
    """The smallest noise multiplier (to a tolerance) at which ``steps`` steps cost <= ``epsilon``.

    Bisection; epsilon falls as noise grows. RDP at integer orders brackets first because it is
    fast and lies above both accountants. The result always satisfies
    ``compute_epsilon(...) <= epsilon``.

    Raises:
        UsageError: no noise multiplier up to 1e5 meets the budget.
    """

    def spent(noise_multiplier: float) -> float:
        return compute_epsilon([(noise_multiplier, sample_rate, steps)], delta, accountant)

    def bound(noise_multiplier: float) -> float:
        return _rdp_epsilon([(noise_multiplier, sample_rate, steps)], delta, INTEGER_ORDERS)

    def double_until(enough: Callable[[float], float], high: float) -> float:
        while enough(high) > epsilon:
            high *= 2
            if high > MAX_NOISE_MULTIPLIER:
                raise UsageError(
                    f"privacy.epsilon={epsilon:g}: no noise multiplier up to"
                    f" {MAX_NOISE_MULTIPLIER:g} meets it in {steps} steps at delta {delta:g};"
                    " raise epsilon or plan fewer steps"
                )
        return high

    high = _bisect(0.0, double_until(bound, 1.0), epsilon, bound)
    high = double_until(spent, high)  # PRV counts its own error of 0.01: it shows at tiny budgets
    return _bisect(high / 2, high, epsilon, spent)


def _bisect(low: float, high: float, target: float, spent: Callable[[float], float]) -> float:
    slack = EPSILON_TOLERANCE * min(1.0, target)
    while high - low > 1e-4 * high and target - spent(high) > slack:
        middle = (low + high) / 2
        if spent(middle) <= target:
            high = middle
        else:
            low = middle
    return high
