"""Limits: what is over them, by how much, and what is within."""

import dataclasses

import pytest

from fedlite.search.trials import Limits, Outcome, Trial, identity_of

LIMITS = Limits(latency_ms=0.2, bytes=50_000, reference_accuracy=0.9, max_accuracy_drop=0.02)
GOOD = Outcome(latency_ms=0.1, bytes=40_000, accuracy=0.89)


def trial(outcome: Outcome | None) -> Trial:
    return Trial(0, {}, {}, outcome, 1.0)


def test_exactly_at_the_limits_is_within_them() -> None:
    at = Outcome(latency_ms=0.2, bytes=50_000, accuracy=0.88)
    assert LIMITS.feasible(trial(at))
    assert LIMITS.shortfall(at) == 0


@pytest.mark.parametrize(
    ("field", "value", "excess"),
    [("latency_ms", 0.3, 0.5), ("bytes", 100_000, 1.0), ("accuracy", 0.87, 0.5)],
)
def test_each_limit_counts_in_shares_of_itself(field: str, value: float, excess: float) -> None:
    over = dataclasses.replace(GOOD, **{field: value})
    assert LIMITS.shortfall(over) == pytest.approx(excess)
    assert not LIMITS.feasible(trial(over))


def test_a_collapsed_model_is_further_over_than_one_that_is_too_large() -> None:
    strict = dataclasses.replace(LIMITS, max_accuracy_drop=0.0)
    collapsed = dataclasses.replace(GOOD, accuracy=0.2)
    large = dataclasses.replace(GOOD, bytes=500_000, accuracy=0.9)
    assert strict.shortfall(collapsed) > strict.shortfall(large)


def test_without_limits_all_that_has_an_accuracy_is_within() -> None:
    assert Limits().feasible(trial(dataclasses.replace(GOOD, accuracy=0.0)))
    assert not Limits().feasible(trial(dataclasses.replace(GOOD, accuracy=None)))
    assert not Limits().feasible(trial(None))


def test_identity_follows_values_alone() -> None:
    assert identity_of({"a": 1, "b": [2]}) == identity_of({"b": [2], "a": 1})
    assert identity_of({"a": 1}) != identity_of({"a": 2})
