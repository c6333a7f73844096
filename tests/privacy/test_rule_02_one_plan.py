"""Rule 2: one noise multiplier for the whole plan; what exceeds the plan is refused."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from fedlite.errors import UsageError
from fedlite.privacy import (
    PrivacyPlan,
    calibrate_noise_multiplier,
    compute_epsilon,
    derive_max_participations,
)
from fedlite.privacy.accounting import merge_segments
from tests.privacy.world import ClientWorld


def test_one_participation_too_many_is_refused_with_its_reason(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world("federation.max_participations=2")
    assert world.train(1).content.config_records["report"]["status"] == "trained"
    assert world.train(2).content.config_records["report"]["status"] == "trained"
    refusal = world.train(3).content
    assert refusal.config_records["report"]["status"] == "refused"
    assert "would exceed the budget 8" in str(refusal.config_records["report"]["reason"])
    assert not refusal.array_records
    assert len(world.ledger().entries()) == 2


def test_a_server_that_sends_less_noise_is_refused(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world()
    weak = world.train(1, noise_multiplier=0.1)
    assert weak.content.config_records["report"]["status"] == "refused"
    lavish = world.train(1, epsilon=1000.0, noise_multiplier=0.1)  # the budget is the client's own
    assert lavish.content.config_records["report"]["status"] == "refused"
    assert world.ledger().entries() == []


@settings(max_examples=12, deadline=None)
@given(
    epsilon=st.floats(0.2, 20),
    sample_rate=st.sampled_from([0.01, 0.1, 0.5, 1.0]),
    steps=st.integers(1, 400),
    accountant=st.sampled_from(["prv", "rdp"]),
)
def test_the_whole_plan_stays_within_budget_and_is_not_wasteful(
    epsilon: float, sample_rate: float, steps: int, accountant: str
) -> None:
    noise_multiplier = calibrate_noise_multiplier(
        epsilon=epsilon, delta=1e-5, sample_rate=sample_rate, steps=steps, accountant=accountant
    )
    spent = compute_epsilon([(noise_multiplier, sample_rate, steps)], 1e-5, accountant)
    assert 0.93 * epsilon - 0.02 <= spent <= epsilon


def test_participations_under_sampling_are_a_high_quantile_not_the_mean() -> None:
    assert derive_max_participations(50, fraction=1.0) == 50
    high = derive_max_participations(100, fraction=0.1)
    assert binom.cdf(high, 100, 0.1) >= 0.999
    assert high > 10
    assert derive_max_participations(3, fraction=0.0001) == 1


def test_calibrating_each_round_for_itself_would_overspend() -> None:
    """The mistake this rule is about: epsilon 3 in each of 50 rounds is not epsilon 3."""
    each = calibrate_noise_multiplier(
        epsilon=3, delta=1e-5, sample_rate=0.1, steps=10, accountant="rdp"
    )
    assert compute_epsilon([(each, 0.1, 500)], 1e-5, "rdp") > 10


@pytest.mark.parametrize(
    ("participations", "expected"), [(1, 1.08), (5, 2.36), (10, 3.42), (20, 5.09), (50, 8.88)]
)
def test_reference_points(participations: int, expected: float) -> None:
    history = [(1.2, 0.1, 10 * participations)]
    spent = compute_epsilon(history, 1e-3, "prv")
    assert spent == pytest.approx(expected, abs=0.02)
    assert spent < compute_epsilon(history, 1e-3, "rdp") < 1.4 * spent


def test_composition_does_not_depend_on_how_steps_are_grouped() -> None:
    split = [(1.2, 0.1, 3), (2.0, 0.1, 1), (1.2, 0.1, 7)]
    assert merge_segments(split) == ((1.2, 0.1, 10), (2.0, 0.1, 1))
    assert compute_epsilon([], 1e-5, "prv") == 0.0


def test_a_plan_that_cannot_afford_one_round_is_refused() -> None:
    with pytest.raises(UsageError, match="one participation costs epsilon"):
        PrivacyPlan.build(
            epsilon=0.5, delta=1e-5, noise_multiplier=0.5, max_grad_norm=1.0, sample_rate=1.0,
            expected_examples=100, steps=1, max_participations=1, accountant="prv",
            randomness="secure",
        )  # fmt: skip


def test_delta_of_one_over_n_is_refused() -> None:
    with pytest.raises(UsageError, match="below 1/n"):
        PrivacyPlan.build(
            epsilon=8, delta=0.01, noise_multiplier=None, max_grad_norm=1.0, sample_rate=1.0,
            expected_examples=100, steps=1, max_participations=1, accountant="prv",
            randomness="secure",
        )  # fmt: skip
