"""Epsilon of a history of Poisson-sampled Gaussian steps, and the noise a budget allows.

A history is a sequence of segments ``(noise_multiplier, sample_rate, steps)``; composition does
not depend on order, so equal segments are merged. Both units of privacy use it: a step is a batch
of examples, or a round of clients, and neighbours differ by adding or removing one of them.

Three accountants, each an upper bound:

- ``prv``: Opacus, Gopi, Lee, Wutschitz 2021; tight, plus its own error of 0.01.
- ``pld``: dp-accounting, privacy loss distributions by connecting the dots (Doroshenko et al.
  2022); tight, for adding and for removing.
- ``rdp``: Opacus, Mironov, Talwar, Zhang 2019; looser.

Every positive noise multiplier, sample rate, number of steps and delta has an epsilon of 0 or more,
in seconds and in memory that a small machine has (scripts/bench_accounting.py bounds): what an
accountant cannot work out is left to the next careful one, prv to pld and pld to rdp, and values
beyond those that the libraries are sound for count as the nearest that costs more. Infinity says
that no protection is left worth a number.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, reduce

import numpy as np
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from numpy.typing import NDArray
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp as opacus_rdp
from opacus.accountants.analysis.prv import (
    DiscretePRV,
    Domain,
    PoissonSubsampledGaussianPRV,
    TruncatedPrivacyRandomVariable,
    compose_heterogeneous,
    discretize,
)
from scipy.fft import next_fast_len

from fedlite.base.errors import UsageError
from fedlite.privacy.options import LARGEST_NOISE, SMALLEST_RATE

# Opacus stops at order 63, where no epsilon below 0.13 can be shown at delta 1e-5.
Orders = tuple[float, ...]
LARGE_ORDERS: Orders = (80, 96, 128, 192, 256, 384, 512, 1024)
OPACUS_ORDERS: Orders = tuple(RDPAccountant.DEFAULT_ALPHAS)
RDP_ORDERS: Orders = (*OPACUS_ORDERS, *LARGE_ORDERS)
INTEGER_ORDERS: Orders = (*range(2, 64), *LARGE_ORDERS)  # enough to bracket; others are slow

BESIDE_AN_ORDER = 1.2  # Opacus has no order between 10.9 and 12

Segment = tuple[float, float, int]

EPSILON_TOLERANCE = 0.01
PRV_ERROR = 0.01  # Opacus' default, on epsilon
# Beyond these, the grids take gigabytes or rounding outweighs delta; RDP's bound holds as well.
LARGEST_TIGHT_EPSILON = 300.0
SMALLEST_TIGHT_DELTA = 1e-12
LARGEST_TIGHT_SEGMENTS = 32
LARGEST_TIGHT_STEPS = 3 * 10**5  # of all segments; their losses convolve in minutes beyond
LARGEST_PRV_STEPS = 10**5  # beyond, PLD takes over
LARGEST_PRV_GRID = 2**21  # points; beyond, PLD takes over
COARSEST_PLD_INTERVAL = 2.0**-8  # between the privacy losses of the grid
LARGEST_PLD_GRID = 2**18  # points, for one step
MAX_NOISE_MULTIPLIER = 1e5
# What is beyond these counts as the next that costs more; no epsilon is known for what costs most.
SMALLEST_NOISE, LARGEST_RATE = 1e-3, 1 - 1e-9  # and LARGEST_NOISE, SMALLEST_RATE
LARGEST_STEPS = 10**9
LARGEST_FRACTIONAL_NOISE = 64.0  # Opacus sums up hundred thousands of terms at other orders


def merge_segments(history: Iterable[Segment]) -> tuple[Segment, ...]:
    """Add up the steps of equal (noise multiplier, sample rate) pairs, in a fixed order.

    >>> merge_segments([(1.2, 0.1, 3), (0.8, 0.1, 5), (1.2, 0.1, 4)])
    ((0.8, 0.1, 5), (1.2, 0.1, 7))
    """
    steps: Counter[tuple[float, float]] = Counter()
    for noise_multiplier, sample_rate, count in history:
        steps[noise_multiplier, sample_rate] += count
    return tuple((z, q, n) for (z, q), n in sorted(steps.items()) if n > 0)


def compute_epsilon(history: Iterable[Segment], delta: float, accountant: str) -> float:
    """Epsilon spent by ``history`` at ``delta`` by ``accountant`` (prv, pld or rdp); 0 if empty.

    Infinity where a noise multiplier is below 1e-3, or 1e9 steps are exceeded.

    >>> rounds = [(1.2, 0.1, 5)] * 10  # noise multiplier, sample rate, steps
    >>> [round(compute_epsilon(rounds, 1e-5, name), 1) for name in ("prv", "pld", "rdp")]
    [3.7, 3.7, 4.2]
    """
    return merged_epsilon(merge_segments(history), delta, accountant)


@lru_cache(maxsize=4096)
def merged_epsilon(merged: tuple[Segment, ...], delta: float, accountant: str) -> float:
    """:func:`compute_epsilon` of segments as :func:`merge_segments` orders them; remembered."""
    if not merged:
        return 0.0
    total = sum(steps for *_, steps in merged)
    if merged[0][0] < SMALLEST_NOISE or total > LARGEST_STEPS:
        return math.inf
    history = [_within_libraries(*segment) for segment in merged]
    tight = (
        total <= LARGEST_TIGHT_STEPS
        and delta >= SMALLEST_TIGHT_DELTA
        and len(history) <= LARGEST_TIGHT_SEGMENTS
        and _rdp_epsilon(history, delta, INTEGER_ORDERS) <= LARGEST_TIGHT_EPSILON
    )
    found = math.inf
    if tight and accountant == "prv" and total <= LARGEST_PRV_STEPS:
        found = _prv_epsilon(history, delta)
    if tight and accountant != "rdp" and not math.isfinite(found):
        found = _pld_epsilon(history, delta)
    if not math.isfinite(found):
        found = _rdp_epsilon(history, delta, RDP_ORDERS)
    return max(0.0, found)


def _within_libraries(noise_multiplier: float, sample_rate: float, steps: int) -> Segment:
    """The nearest segment that costs as much or more and that the libraries are sound for."""
    rate = 1.0 if sample_rate > LARGEST_RATE else max(sample_rate, SMALLEST_RATE)
    return (min(noise_multiplier, LARGEST_NOISE), rate, steps)


class _Prv(PRVAccountant):  # type: ignore[misc]  # untyped library class
    """Opacus' accountant, on grids that serve many numbers of steps.

    A grid is the one of Opacus' own formula (``compute_safe_domain_size``, remark 5.6 of Gopi et
    al.: of up to so many steps) for steps rounded up to powers of two, and so the same for every
    round of a run until they have doubled: a step's loss is laid on it once, most of the time of an
    epsilon. Its size is one that transforms fast (scripts/bench_accounting.py).
    """

    def _get_dprv(self, eps_error: float, delta_error: float) -> DiscretePRV:
        exact = [(z, q, steps) for z, q, steps in self.history]
        rounded = [(z, q, 1 << (steps - 1).bit_length()) for z, q, steps in exact]
        grids = (_grid(history, eps_error, delta_error) for history in (rounded, exact))
        mesh, size = next(((m, n) for m, n in grids if n * len(exact) <= LARGEST_PRV_GRID), (0, 0))
        if not size:
            raise _TooFineError
        losses = [step_prv(z, q, mesh, size) for z, q, _ in exact]
        return compose_heterogeneous(losses, [steps for *_, steps in exact])


def _grid(history: Sequence[Segment], eps_error: float, delta_error: float) -> tuple[float, int]:
    """Mesh and number of points of a grid for a history and all shorter ones."""
    total = sum(steps for *_, steps in history)
    widths = [_rdp_epsilon(history, delta_error / 4, INTEGER_ORDERS)]
    for noise_multiplier, sample_rate, _ in history:
        once = [(noise_multiplier, sample_rate, 1)]
        widths.append(_rdp_epsilon(once, delta_error / (8 * total), INTEGER_ORDERS))
    mesh = eps_error / math.sqrt(total * math.log(12 / delta_error) / 2)
    half = (max(*widths, eps_error) + 3) / mesh
    return mesh, 2 * next_fast_len(math.ceil(half) + 1, real=True)


@lru_cache(maxsize=8)
def step_prv(noise_multiplier: float, sample_rate: float, mesh: float, size: int) -> DiscretePRV:
    """The privacy loss of one step on a grid of so many points; remembered.

    Opacus composes losses whose grid has 0 at the last point of its first half.
    """
    domain = Domain(-(size // 2 - 1) * mesh, size // 2 * mesh, size)
    loss = PoissonSubsampledGaussianPRV(sample_rate, noise_multiplier)
    return discretize(TruncatedPrivacyRandomVariable(loss, domain.t_min, domain.t_max), domain)


class _TooFineError(Exception):
    """The grid that the errors ask for has too many points."""


def _prv_epsilon(history: Sequence[Segment], delta: float) -> float:
    """Infinity where Opacus' grid would be too fine, or does not hold the losses well enough."""
    engine = _Prv()
    engine.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # log(0) at the edge of the loss's support, masked after
        try:
            return float(engine.get_epsilon(delta=delta))
        except (_TooFineError, RuntimeError, ValueError):  # the latter two are Opacus' own words
            return math.inf


def _pld_epsilon(history: Sequence[Segment], delta: float) -> float:
    finest = min(_pld_interval(z, q) for z, q, _ in history)
    interval = max(finest, _power_of_two(_widest(history[0][0]) / LARGEST_PLD_GRID))
    parts = [step_pld(z, q, interval).self_compose(steps) for z, q, steps in history]
    return float(reduce(PrivacyLossDistribution.compose, parts).get_epsilon_for_delta(delta))


def _pld_interval(noise_multiplier: float, sample_rate: float) -> float:
    """A grid eight times finer than the spread of one step's privacy loss, where it adds under
    0.2% to epsilon (coarser if it grew too large); powers of two, so that segments share grids.

    It coarsens with less noise and larger sample rates, so it never turns more spending into a
    smaller epsilon.
    """
    spread = math.sqrt(math.log1p(sample_rate**2 * math.expm1(min(700.0, noise_multiplier**-2))))
    interval = max(spread / 8, _widest(noise_multiplier) / LARGEST_PLD_GRID)
    return _power_of_two(min(COARSEST_PLD_INTERVAL, interval))


def _widest(noise_multiplier: float) -> float:
    """About the largest privacy loss of one step that matters; it grows as noise falls."""
    return noise_multiplier**-2 / 2 + 10 / noise_multiplier


def _power_of_two(value: float) -> float:
    return float(2.0 ** math.floor(math.log2(value)))


@lru_cache(maxsize=32)
def step_pld(
    noise_multiplier: float, sample_rate: float, interval: float
) -> PrivacyLossDistribution:
    """The privacy loss of one step on a grid of so wide an interval; remembered."""
    return privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier, sampling_prob=sample_rate, value_discretization_interval=interval
    )


def _rdp_epsilon(history: Sequence[Segment], delta: float, orders: Orders) -> float:
    """The least over ``orders``. Those that are no integers are slow, and worked out beside the
    best integer alone: the bound of every order holds, and it falls and rises once along them."""
    epsilon, best = _rdp_spent(history, delta, tuple(o for o in orders if float(o).is_integer()))
    beside = tuple(o for o in orders if o != best and abs(o - best) < BESIDE_AN_ORDER)
    if not all(float(order).is_integer() for order in beside):
        epsilon = min(epsilon, _rdp_spent(history, delta, beside)[0])
    return max(0.0, epsilon)


def _rdp_spent(history: Sequence[Segment], delta: float, orders: Orders) -> tuple[float, float]:
    """Epsilon by Opacus' conversion, and the order that gives it."""
    rdp = sum(step_rdp(z, q, orders) * steps for z, q, steps in history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the best order may be the smallest or largest tried
        epsilon, order = opacus_rdp.get_privacy_spent(orders=orders, rdp=rdp, delta=delta)
    return float(epsilon), float(order)


@lru_cache(maxsize=1024)
def step_rdp(noise_multiplier: float, sample_rate: float, orders: Orders) -> NDArray[np.float64]:
    """The RDP of one step at every order, remembered: Opacus works it out anew each time.

    Infinite at orders that are no integers where their series would take too long.
    """
    cheap = noise_multiplier <= LARGEST_FRACTIONAL_NOISE or sample_rate == 1
    taken = [order for order in orders if cheap or float(order).is_integer()]
    found = np.full(len(orders), np.inf)
    found[np.isin(orders, taken)] = opacus_rdp.compute_rdp(
        q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=taken
    )
    return found


def refuse_without_epsilon(noise_multiplier: float, epsilon: float, option: str) -> None:
    """Refuse a plan that no finite epsilon describes.

    Raises:
        UsageError: names ``option`` and what would be right.
    """
    if math.isinf(epsilon):
        raise UsageError(
            f"{option}.noise_multiplier={noise_multiplier:g}: no epsilon tells what so little noise"
            f" in so many steps costs; give {SMALLEST_NOISE:g} or more, or fewer steps"
        )


def calibrate_noise_multiplier(
    *, epsilon: float, delta: float, sample_rate: float, steps: int, accountant: str
) -> float:
    """The smallest noise multiplier (to a tolerance) at which ``steps`` steps cost <= ``epsilon``.

    Bisection; epsilon falls as noise grows. The fast accountants bring the slow ones near: RDP at
    integer orders, which lies above all others, then PLD, then PRV. The result always satisfies
    ``compute_epsilon(...) <= epsilon``.

    Raises:
        UsageError: ``epsilon`` is not above 0 and finite, or no noise multiplier up to 1e5 meets
            it by this accountant.
    """
    if not 0 < epsilon < math.inf:
        raise UsageError(f"a budget of epsilon {epsilon} is not above 0 and finite")

    def bound(noise_multiplier: float) -> float:
        history = [_within_libraries(noise_multiplier, sample_rate, steps)]
        return _rdp_epsilon(history, delta, INTEGER_ORDERS)

    def spent_by(accountant: str) -> Callable[[float], float]:
        return lambda z: compute_epsilon([(z, sample_rate, steps)], delta, accountant)

    if spent_by(accountant)(MAX_NOISE_MULTIPLIER) > epsilon:
        tighter = "" if accountant == "pld" else ", take accountant pld for small ones"
        raise UsageError(
            f"privacy.epsilon={epsilon:g}: by {accountant} no noise multiplier up to"
            f" {MAX_NOISE_MULTIPLIER:g} meets it in {steps} steps at delta {delta:g};"
            f" raise epsilon{tighter} or plan fewer steps"
        )
    if bound(MAX_NOISE_MULTIPLIER) <= epsilon:
        near = _tighten(1.0, 0.5, epsilon, bound)
    else:  # below what RDP can show, the loss is nearly Gaussian with this standard deviation
        near = min(MAX_NOISE_MULTIPLIER, sample_rate * math.sqrt(steps) / epsilon)
    near = max(near, SMALLEST_NOISE)
    if accountant == "prv":  # its own error counts, and shows at small budgets
        without_error = epsilon - PRV_ERROR if epsilon > PRV_ERROR else epsilon / 2
        near = _tighten(near, 0.85, without_error, spent_by("pld"))
        return _tighten(near, 0.98, epsilon, spent_by("prv"))
    return _tighten(near, 0.85, epsilon, spent_by(accountant))


def _tighten(near: float, step: float, target: float, spent: Callable[[float], float]) -> float:
    """The smallest noise within ``target``, up to 1e5, which must be within it: from ``near`` in
    factors of ``step``, then halving."""
    high = near
    while spent(high) > target:
        high = min(high / step, MAX_NOISE_MULTIPLIER)
    while step * high >= SMALLEST_NOISE and spent(step * high) <= target:
        high *= step
    low, slack = step * high, EPSILON_TOLERANCE * min(1.0, target)
    while high - low > 1e-4 * high and target - spent(high) > slack:
        middle = (low + high) / 2
        if spent(middle) <= target:
            high = middle
        else:
            low = middle
    return high
