"""The accountants against each other: two libraries, three methods, one epsilon."""

import tracemalloc
import warnings
from itertools import pairwise

import dp_accounting
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant

from fedlite.base.errors import UsageError
from fedlite.privacy.accounting import (
    LARGEST_TIGHT_EPSILON,
    RDP_ORDERS,
    Segment,
    calibrate_noise_multiplier,
    compute_epsilon,
)
from fedlite.runs.compose import compose_config

ACCOUNTANTS = ("prv", "pld", "rdp")
AGREEMENT = 0.02  # relative
PRV_ERROR = 0.01  # what PRV adds to epsilon for its own error; it shows where epsilon is small

# (noise multiplier, sample rate, steps, delta)
GRID = [
    (0.6, 0.01, 1000, 1e-5),
    (0.8, 0.05, 200, 1e-5),
    (1.0, 0.01, 5000, 1e-6),
    (1.0, 1.0, 1, 1e-5),
    (1.2, 0.1, 500, 1e-3),
    (1.5, 0.5, 30, 1e-5),
    (2.0, 0.1, 100, 1e-3),
    (2.5, 0.25, 120, 1e-5),
    (4.0, 1.0, 100, 1e-6),
]

# docs/privacy.md: 100 clients, 10 a round, 100 rounds, delta 1e-3; noise multiplier -> epsilon
AMPLIFIED = {1.0: 4.78, 2.0: 1.54, 4.0: 0.62}
NOT_AMPLIFIED = {1.0: 80.0, 2.0: 27.2, 4.0: 10.2}
# noise 1.2, sample rate 0.1, 10 steps a round, delta 1e-3; participations -> epsilon
EXAMPLE_LEVEL = {1: 1.08, 5: 2.36, 10: 3.42, 20: 5.09, 50: 8.88}


def dp_accounting_rdp(segment: Segment, delta: float) -> float:
    """Epsilon by the RDP of dp-accounting, which shares no code with Opacus'."""
    noise_multiplier, sample_rate, steps = segment
    step = dp_accounting.PoissonSampledDpEvent(
        sample_rate, dp_accounting.GaussianDpEvent(noise_multiplier)
    )
    accountant = RdpAccountant(orders=RDP_ORDERS)
    return float(accountant.compose(step, steps).get_epsilon(delta))


@pytest.mark.parametrize(("noise_multiplier", "sample_rate", "steps", "delta"), GRID)
def test_two_libraries_agree_and_rdp_is_the_careful_one(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float
) -> None:
    segment = (noise_multiplier, sample_rate, steps)
    prv, pld, rdp = (compute_epsilon([segment], delta, name) for name in ACCOUNTANTS)
    assert rdp == pytest.approx(dp_accounting_rdp(segment, delta), rel=AGREEMENT)
    assert prv == pytest.approx(pld, abs=AGREEMENT * pld + PRV_ERROR)
    assert rdp >= max(prv, pld)


@pytest.mark.parametrize(
    ("sample_rate", "noise_multiplier", "epsilon"),
    [(0.1, *point) for point in AMPLIFIED.items()]
    + [(1.0, *point) for point in NOT_AMPLIFIED.items()],
)
def test_reference_points_of_the_client_level(
    sample_rate: float, noise_multiplier: float, epsilon: float
) -> None:
    found = compute_epsilon([(noise_multiplier, sample_rate, 100)], 1e-3, "pld")
    assert found == pytest.approx(epsilon, rel=AGREEMENT)


@pytest.mark.parametrize(("participations", "epsilon"), EXAMPLE_LEVEL.items())
def test_reference_points_of_the_example_level(participations: int, epsilon: float) -> None:
    history = [(1.2, 0.1, 10)] * participations
    assert compute_epsilon(history, 1e-3, "pld") == pytest.approx(epsilon, rel=AGREEMENT)
    prv = compute_epsilon(history, 1e-3, "prv")
    assert prv == pytest.approx(epsilon, abs=AGREEMENT * epsilon + PRV_ERROR)


PLANS = st.tuples(
    st.floats(0.5, 10),
    st.sampled_from([0.01, 0.05, 0.2, 0.5, 0.9, 1.0]),
    st.integers(1, 400),
)

CHEAP_PLANS = st.tuples(  # for Opacus' own grids
    st.floats(1, 10), st.sampled_from([0.01, 0.05, 0.2]), st.integers(1, 200)
)


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@settings(max_examples=10)
@given(
    plan=PLANS,
    more_steps=st.integers(1, 100),
    larger_rate=st.floats(1.01, 2),
    less_noise=st.floats(0.6, 0.99),
)
def test_spending_more_never_lowers_epsilon(
    accountant: str, plan: Segment, more_steps: int, larger_rate: float, less_noise: float
) -> None:
    noise_multiplier, sample_rate, steps = plan
    spent = compute_epsilon([plan], 1e-5, accountant)
    slack = PRV_ERROR if accountant == "prv" else 1e-6 * (1 + spent)
    for careless in (
        (noise_multiplier, sample_rate, steps + more_steps),
        (noise_multiplier, min(1.0, sample_rate * larger_rate), steps),
        (noise_multiplier * less_noise, sample_rate, steps),
    ):
        assert compute_epsilon([careless], 1e-5, accountant) >= spent - slack


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@settings(max_examples=5)
@given(first=PLANS, second=PLANS)
def test_two_plans_cost_more_than_either_whatever_their_order(
    accountant: str, first: Segment, second: Segment
) -> None:
    both = compute_epsilon([first, second], 1e-5, accountant)
    assert both == compute_epsilon([second, first], 1e-5, accountant)
    each = [compute_epsilon([plan], 1e-5, accountant) for plan in (first, second)]
    slack = PRV_ERROR if accountant == "prv" else 0.002 * max(each)  # the grids may differ
    assert both >= max(each) - slack


@settings(max_examples=25)
@given(history=st.lists(PLANS, min_size=1, max_size=3), delta=st.sampled_from([1e-9, 1e-5, 1e-2]))
def test_rdp_is_the_least_of_all_orders(history: list[Segment], delta: float) -> None:
    """Those between integers are not worked out unless they can win."""
    accountant = RDPAccountant()
    accountant.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the best order may be the smallest or largest tried
        epsilon = accountant.get_epsilon(delta, alphas=RDP_ORDERS)
    assert compute_epsilon(history, delta, "rdp") == pytest.approx(max(0.0, epsilon), rel=1e-9)


@settings(max_examples=8)
@given(history=st.lists(CHEAP_PLANS, min_size=1, max_size=2), delta=st.sampled_from([1e-5, 1e-3]))
def test_prv_is_that_of_opacus_within_a_little_of_its_error(
    history: list[Segment], delta: float
) -> None:
    """Grids that many numbers of steps share are finer than Opacus', and claim no other epsilon."""
    accountant = PRVAccountant()
    accountant.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # log(0) at the edge of the loss's support, masked after
        opacus = accountant.get_epsilon(delta)
    assert compute_epsilon(history, delta, "prv") == pytest.approx(opacus, abs=PRV_ERROR / 10)


def test_epsilon_grows_with_every_round_of_a_long_plan() -> None:
    for accountant in ("pld", "prv"):
        spent = [compute_epsilon([(2.0, 0.1, rounds)], 1e-3, accountant) for rounds in range(1, 40)]
        assert all(earlier < later for earlier, later in pairwise(spent))


@pytest.mark.parametrize("accountant", ["prv", "pld"])
def test_a_tiny_noise_multiplier_takes_no_gigabytes(accountant: str) -> None:
    tracemalloc.start()
    try:
        for noise_multiplier in (1e-3, 0.03, 0.06):
            history = [(noise_multiplier, 0.5, 100)]
            spent = compute_epsilon(history, 1e-5, accountant)
            assert LARGEST_TIGHT_EPSILON < spent == compute_epsilon(history, 1e-5, "rdp")
        assert compute_epsilon([(0.2, 0.5, 1)], 1e-5, accountant) < LARGEST_TIGHT_EPSILON
        assert tracemalloc.get_traced_memory()[1] < 5e8
    finally:
        tracemalloc.stop()


@settings(max_examples=6)
@given(
    epsilon=st.floats(0.1, 20),
    sample_rate=st.sampled_from([0.001, 0.01, 0.1, 1.0]),
    steps=st.integers(1, 400),
)
def test_pld_calibrates_within_budget_and_wastes_little(
    epsilon: float, sample_rate: float, steps: int
) -> None:
    options = {"delta": 1e-4, "sample_rate": sample_rate, "steps": steps, "accountant": "pld"}
    noise_multiplier = calibrate_noise_multiplier(epsilon=epsilon, **options)
    spent = compute_epsilon([(noise_multiplier, sample_rate, steps)], 1e-4, "pld")
    assert 0.93 * epsilon - 0.02 <= spent <= epsilon


def test_the_tight_accountants_allow_less_noise_than_rdp() -> None:
    options = {"epsilon": 4.0, "delta": 1e-5, "sample_rate": 0.1, "steps": 100}
    prv, pld, rdp = (calibrate_noise_multiplier(**options, accountant=name) for name in ACCOUNTANTS)
    assert prv == pytest.approx(pld, rel=0.01)
    assert pld < 0.97 * rdp


def test_gaussian_dp_is_not_offered() -> None:
    with pytest.raises(UsageError, match=r"privacy\.accountant=gdp: must be one of prv, pld, rdp"):
        compose_config(["privacy.accountant=gdp"])
