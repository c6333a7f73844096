"""The privacy statement says what is promised, in words and numbers, and what is not."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlite.report.privacy_statement import guess_bound, privacy_statement
from tests.report.runs import Report


def test_a_private_run_states_every_number_and_every_limit(report: Report) -> None:
    text = privacy_statement(report["privacy"])
    assert "NOT PRIVATE" not in text
    assert text.startswith("**What is protected:** one image of a handwritten digit.")
    for number in ("7.92", "1e-05", "1.31", "prv", "poisson", "20 and 20", "secure", "local"):
        assert number in text
    for word in ("adjacency", "max grad norm", "sample rate", "steps", "rdp", "not audited"):
        assert word in text.lower()
    missing = text[text.index("### Not covered") :]
    for limit in (
        "teacher's training data",
        "How many examples",
        "tuning runs",
        "test set",
        "label",
    ):
        assert limit in missing


@pytest.mark.parametrize("options", [{"private": False}, {"randomness": "deterministic"}])
def test_not_private_comes_first(
    make_report: Callable[..., Report], options: dict[str, Any]
) -> None:
    text = privacy_statement(make_report(**options)["privacy"])
    assert text.startswith("🛑 **NOT PRIVATE**")


def test_without_privacy_no_guarantee_is_described(make_report: Callable[..., Report]) -> None:
    text = privacy_statement(make_report(private=False)["privacy"])
    assert "epsilon" not in text.replace("(privacy=none)", "").lower()


def test_aggregate_trust_names_its_assumption(report: Report) -> None:
    report["privacy"]["units"][0]["trust"] = "aggregate"
    assert "an assumption, not a protocol" in privacy_statement(report["privacy"])


@given(st.floats(0, 500), st.floats(0, 1e-3))
def test_guess_bound_lies_between_blind_and_certain(epsilon: float, delta: float) -> None:
    bound = guess_bound(epsilon, delta)
    assert 0.5 <= bound <= 1 + 1e-3
    assert bound <= guess_bound(epsilon + 1, delta) + 1e-12


def test_guess_bound_is_the_formula() -> None:
    assert guess_bound(1.0, 1e-5) == pytest.approx((math.e + 1e-5) / (1 + math.e))


@pytest.mark.parametrize("epsilon", [0.5, 8.0, 60.0, 5000.0])
def test_large_epsilons_stay_readable(make_report: Callable[..., Report], epsilon: float) -> None:
    text = privacy_statement(make_report(epsilon=epsilon)["privacy"])
    assert max(map(len, text.split())) < 40


def test_noise_without_a_budget_says_so(report: Report) -> None:
    report["privacy"]["units"][0]["budget"] = None
    assert "| Budget (epsilon) | none |" in privacy_statement(report["privacy"])
