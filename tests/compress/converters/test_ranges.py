"""Ranges of activations, which the converters of all formats share."""

import numpy as np
import pytest

from fedlite.compress.converters.ranges import Range


@pytest.fixture
def batches() -> np.ndarray:
    """Thirty examples of two hundred values, with one far outlier."""
    values = np.random.default_rng(0).standard_normal((30, 200)).astype(np.float32)
    values[7, 3] = 50
    return values


def test_without_a_percentile_the_range_is_minimum_and_maximum(batches):
    found = Range(None, len(batches), symmetric=False)
    for one in batches:
        found.update(one.reshape(10, 20))
    assert found.ends() == (batches.min(), batches.max())


@pytest.mark.parametrize("percentile", [99.9, 99, 90])
def test_a_percentile_leaves_its_share_outside(batches, percentile):
    found = Range(percentile, len(batches), symmetric=False)
    for one in batches:
        found.update(one)
    low, high = found.ends()
    outside = (100 - percentile) / 100
    assert np.mean(batches > high) == pytest.approx(outside, abs=1e-3)
    assert np.mean(batches < low) == pytest.approx(outside, abs=1e-3)
    assert high < 5


def test_a_symmetric_range_reaches_as_far_to_both_sides(batches):
    found = Range(None, 1, symmetric=True)
    found.update(batches[:1] - 3)
    low, high = found.ends()
    assert -low == high == np.abs(batches[:1] - 3).max()


def test_zero_is_always_in_the_range():
    found = Range(None, 1, symmetric=False)
    found.update(np.array([2.0, 3.0], np.float32))
    assert found.ends() == (0, 3)
