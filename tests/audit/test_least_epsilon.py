"""The bound that shares no code with the accountants lies below all of them, and not far."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fedlite.audit.least_epsilon import least_epsilon
from fedlite.privacy.accounting import compute_epsilon


@settings(max_examples=6)
@given(
    noise=st.floats(0.5, 5),
    rate=st.floats(0.01, 1),
    steps=st.integers(1, 300),
    delta=st.sampled_from([1e-3, 1e-5, 1e-7]),
)
def test_no_accountant_lies_below(noise: float, rate: float, steps: int, delta: float) -> None:
    least = least_epsilon(noise, rate, steps, delta)
    assert least <= compute_epsilon([(noise, rate, steps)], delta, "pld")


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [(1.2, 0.1, 500, 1e-5), (0.7, 0.5, 3, 1e-5), (4.0, 1.0, 100, 1e-6), (20.0, 0.5, 30, 1e-5)],
)
def test_it_is_within_a_fiftieth_of_a_tight_accountant(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    tight = compute_epsilon([(noise, rate, steps)], delta, "pld")
    assert least_epsilon(noise, rate, steps, delta) > 0.98 * tight


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_one_step_without_sampling_is_the_gaussian_mechanism(noise: float) -> None:
    """Balle and Wang 2018, theorem 8: delta at epsilon in closed form."""
    found = least_epsilon(noise, 1.0, 1, 1e-5)
    half, part = 0.5 / noise, found * noise
    delta = norm.cdf(half - part) - math.exp(found) * norm.cdf(-half - part)
    assert delta == pytest.approx(1e-5, rel=0.01)
    assert np.isfinite(found)
