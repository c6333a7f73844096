"""Several units together: what is claimed is never less than what the mechanism can cost.

The reference is the mechanism itself, without the library that makes the claim: the loss of one
step integrated numerically, and the Gaussian mechanism in closed form.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import binom, norm

from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.groups import group_epsilon, largest_histories
from tests.privacy.planted import caught

Claim = Callable[[list[tuple[float, float, int]], int, float, str], float]
NAMED = ([(4.0, 1.0, 100)], 10, 1e-6)  # whole batches: ten examples were claimed 10 x 14.45


def gaussian_epsilon(history: list[tuple[float, float, int]], size: int, delta: float) -> float:
    """Exact, for whole batches: mu = size sqrt(steps) / z (Balle and Wang 2018, theorem 8)."""
    ((noise, _, steps),) = history
    mu = size * math.sqrt(steps) / noise

    def excess(epsilon: float) -> float:
        first = norm.logcdf(mu / 2 - epsilon / mu)
        second = epsilon + norm.logcdf(-mu / 2 - epsilon / mu)
        return first + math.log1p(-math.exp(second - first)) - math.log(delta)

    return float(brentq(excess, mu * mu / 2, mu * mu / 2 + 10 * mu))


def one_step_epsilon(noise: float, rate: float, size: int, delta: float) -> float:
    """Exact for one step, the group added or removed, whichever costs more."""
    weights = binom.pmf(np.arange(size + 1), size, rate)

    def mixture(x: float) -> float:
        return float(weights @ norm.pdf(x, np.arange(size + 1), noise))

    def without(x: float) -> float:
        return float(norm.pdf(x, 0, noise))

    def exceeds(epsilon: float) -> float:
        worst = 0.0
        for one, other in ((mixture, without), (without, mixture)):
            found, _ = quad(
                lambda x, p=one, q=other: max(0.0, p(x) - math.exp(epsilon) * q(x)),
                -10 * noise,
                size + 10 * noise,
                limit=400,
            )
            worst = max(worst, found)
        return worst - delta

    return 0.0 if exceeds(0.0) <= 0 else float(brentq(exceeds, 0, 60, xtol=1e-4))


def check_never_less_than_the_truth(claim: Claim, history, size, delta, truth: float) -> None:
    for accountant in ("pld", "rdp"):
        claimed = claim(history, size, delta, accountant)
        assert claimed >= truth - 1e-3, "several together are claimed to cost less than they do"


def test_ten_examples_of_the_named_case() -> None:
    history, size, delta = NAMED
    truth = gaussian_epsilon(history, size, delta)
    assert truth == pytest.approx(430, abs=1)
    assert group_epsilon(history, size, delta, "rdp") == pytest.approx(441, abs=1)
    assert group_epsilon(history, size, delta, "prv") == pytest.approx(truth, rel=0.002)
    check_never_less_than_the_truth(group_epsilon, history, size, delta, truth)


@pytest.mark.parametrize(("noise", "rate", "size"), [(2.0, 0.25, 2), (1.0, 0.1, 10), (3.0, 0.5, 5)])
def test_one_step_of_a_sampled_group(noise: float, rate: float, size: int) -> None:
    truth = one_step_epsilon(noise, rate, size, 1e-5)
    check_never_less_than_the_truth(group_epsilon, [(noise, rate, 1)], size, 1e-5, truth)
    assert group_epsilon([(noise, rate, 1)], size, 1e-5, "pld") <= 1.1 * truth + 0.05


@settings(max_examples=4)
@given(
    noise=st.floats(0.7, 8),
    rate=st.sampled_from([0.05, 0.3, 1.0]),
    steps=st.integers(1, 60),
    size=st.integers(1, 6),
)
def test_a_larger_group_never_costs_less(noise: float, rate: float, steps: int, size: int) -> None:
    history = [(noise, rate, steps)]
    few, more = (group_epsilon(history, n, 1e-5, "rdp") for n in (size, size + 1))
    assert few <= more + 1e-9
    tight = group_epsilon(history, 3, 1e-5, "pld")
    assert compute_epsilon(history, 1e-5, "pld") - 1e-3 <= tight
    assert tight <= group_epsilon(history, 3, 1e-5, "rdp") + 1e-9


def test_histories_of_several_kinds_of_step_are_counted_whole() -> None:
    both = [(2.0, 0.3, 10), (1.5, 0.3, 10)]
    spent = group_epsilon(both, 2, 1e-5, "prv")
    assert spent > max(group_epsilon([one], 2, 1e-5, "prv") for one in both)
    assert largest_histories([both, both[:1], [(2.0, 0.3, 12)]]) == [
        ((1.5, 0.3, 10), (2.0, 0.3, 10)),
        ((2.0, 0.3, 12),),
    ]


# --- planted bugs ---------------------------------------------------------------------------


def k_times_epsilon(history, size, delta, accountant) -> float:
    """What reports said before."""
    return size * compute_epsilon(history, delta, accountant)


def all_or_none_sampled(history, size, delta, accountant) -> float:
    """Noise divided by the group, but as if one coin sampled all of it."""
    return compute_epsilon([(z / size, q, n) for z, q, n in history], delta, accountant)


def root_of_the_group(history, size, delta, accountant) -> float:
    """As if gradients of one person were orthogonal."""
    return compute_epsilon([(z / size**0.5, q, n) for z, q, n in history], delta, accountant)


@pytest.mark.parametrize("planted", [k_times_epsilon, root_of_the_group])
def test_planted_claims_are_caught(planted: Claim) -> None:
    history, size, delta = NAMED
    with caught("claimed to cost less than they do"):
        truth = gaussian_epsilon(history, size, delta)
        check_never_less_than_the_truth(planted, history, size, delta, truth)


def test_the_planted_single_coin_is_caught() -> None:
    """Rarely sampled, with much delta: two coins are met twice as often as one."""
    truth = one_step_epsilon(0.5, 0.01, 2, 0.012)
    with caught("claimed to cost less than they do"):
        check_never_less_than_the_truth(all_or_none_sampled, [(0.5, 0.01, 1)], 2, 0.012, truth)
