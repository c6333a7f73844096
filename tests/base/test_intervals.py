"""Intervals and tests of shares: reference values, and one verdict from one comparison."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fedlite.base.intervals import PairedComparison, wilson_interval

COUNTS = st.tuples(*[st.integers(0, 400)] * 4)


def pair(both: int, first: int, second: int, none: int = 0) -> PairedComparison:
    return PairedComparison(both + first + second + none, both, first, second)


@given(COUNTS.filter(lambda counts: sum(counts) > 0))
def test_verdict_interval_and_test_never_contradict_each_other(
    counts: tuple[int, int, int, int],
) -> None:
    both, first, second, none = counts
    found = pair(both, first, second, none)
    low, high = found.interval
    assert low - 1e-12 <= found.gained / found.examples <= high + 1e-12
    assert -1 <= low <= high <= 1
    beyond_chance = {"better": low > 0, "worse": high < 0, "no difference": low <= 0 <= high}
    assert beyond_chance[found.verdict]
    assert (found.verdict == "no difference") == (found.p_value >= 0.05)


@given(COUNTS.filter(lambda counts: sum(counts) > 0))
def test_exchanging_the_two_exchanges_what_is_said(counts: tuple[int, int, int, int]) -> None:
    both, first, second, none = counts
    one, other = pair(both, first, second, none), pair(both, second, first, none)
    assert one.p_value == other.p_value
    assert one.interval == pytest.approx(tuple(-bound for bound in reversed(other.interval)))
    opposite = {"better": "worse", "worse": "better", "no difference": "no difference"}
    assert other.verdict == opposite[one.verdict]


@pytest.mark.parametrize(("first", "second"), [(3, 8), (12, 30), (0, 5), (0, 6), (40, 40)])
def test_the_test_and_the_interval_are_the_exact_binomial_ones(first: int, second: int) -> None:
    found, apart = pair(200, first, second), first + second
    reference = binomtest(second, apart, 0.5)
    assert found.p_value == pytest.approx(reference.pvalue)
    bounds = reference.proportion_ci(0.95, "exact")
    scaled = [(2 * bound - 1) * apart / found.examples for bound in bounds]
    assert found.interval == pytest.approx(tuple(scaled))


def test_five_of_three_hundred_are_no_gain() -> None:
    assert pair(230, 20, 25, 25).verdict == "no difference"
    assert pair(230, 0, 5, 65).verdict == "no difference"
    assert pair(230, 0, 6, 64).verdict == "better"  # p = 2 / 2^6


@given(st.floats(0, 1), st.integers(0, 10_000))
def test_wilsons_interval_holds_the_share(share: float, count: int) -> None:
    low, high = wilson_interval(share, count)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert math.isfinite(low + high)
