"""The one-run lower bound: reference figures, monotony, and that it is a bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlite.audit.one_run import bound_from_scores, epsilon_lower_bound, p_value

DELTA = 1e-5


def bound(correct: int, guesses: int = 100, canaries: int = 1000, delta: float = DELTA) -> float:
    return epsilon_lower_bound(canaries=canaries, guesses=guesses, correct=correct, delta=delta)


def test_the_largest_provable_epsilon_of_a_thousand_canaries() -> None:
    assert bound(1000, guesses=1000) == pytest.approx(5.8, abs=0.05)


def test_without_delta_the_bound_is_the_exact_binomial_one() -> None:
    """All r right: P = q^r, so that q = 0.05^(1/r) and epsilon = log(q / (1 - q))."""
    q = 0.05 ** (1 / 100)
    assert bound(100, delta=0.0) == pytest.approx(np.log(q / (1 - q)), abs=1e-3)


@given(guesses=st.integers(2, 300), share=st.floats(0, 1))
def test_half_right_proves_nothing_and_more_right_never_proves_less(
    guesses: int, share: float
) -> None:
    assert bound(guesses // 2, guesses) == 0
    correct = int(share * guesses)
    assert bound(correct, guesses) <= bound(min(correct + 1, guesses), guesses)


@given(
    correct=st.integers(0, 200),
    epsilons=st.tuples(st.floats(0, 8), st.floats(0, 8)),
    delta=st.floats(0, 1e-3),
)
def test_a_larger_epsilon_is_harder_to_refute(
    correct: int, epsilons: tuple[float, float], delta: float
) -> None:
    low, high = sorted(epsilons)
    facts = {"canaries": 1000, "guesses": 200, "correct": correct, "delta": delta}
    assert p_value(low, **facts) <= p_value(high, **facts) + 1e-9


@given(correct=st.integers(60, 100), deltas=st.tuples(st.floats(0, 1e-3), st.floats(0, 1e-3)))
def test_a_larger_delta_never_proves_more(correct: int, deltas: tuple[float, float]) -> None:
    low, high = sorted(deltas)
    assert bound(correct, delta=high) <= bound(correct, delta=low) + 1e-3


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_randomised_response_is_overestimated_in_at_most_a_twentieth_of_audits(
    epsilon: float,
) -> None:
    """Guessing e^eps / (1 + e^eps) of all coins right is exactly epsilon-DP."""
    right = np.exp(epsilon) / (1 + np.exp(epsilon))
    counts = np.random.default_rng(0).binomial(500, right, size=2000)
    exceeded = {c: bound(int(c), 500, canaries=500, delta=0.0) > epsilon for c in set(counts)}
    assert np.mean([exceeded[c] for c in counts]) <= 0.05


def test_scores_that_tell_all_coins_prove_more_than_scores_that_tell_none() -> None:
    rng = np.random.default_rng(0)
    included = rng.random(1000) < 0.5
    telling = bound_from_scores(included + 0.1 * rng.random(1000), included, DELTA)
    silent = bound_from_scores(rng.random(1000), included, DELTA)
    assert telling.epsilon > 4.5
    assert silent.epsilon < 0.2


def test_choosing_among_numbers_of_guesses_is_paid_for() -> None:
    included = np.arange(100) < 50
    scores = included.astype(np.float64)
    one = bound_from_scores(scores, included, DELTA, shares=[1.0])
    four = bound_from_scores(scores, included, DELTA, shares=[0.25, 0.5, 0.75, 1.0])
    assert four.epsilon < one.epsilon
    assert four.guesses == one.guesses == 100
