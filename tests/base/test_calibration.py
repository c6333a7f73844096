"""How sure against how right: softmax, bins, calibration error; the scores of classes."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from fedlite.base.calibration import (
    Bin,
    calibration_error,
    error_by_chance,
    probabilities_of,
    reliability,
)
from fedlite.base.class_scores import class_scores


def test_a_temperature_never_changes_the_answer() -> None:
    logits = np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32) * 9
    for temperature in (0.05, 0.5, 1.0, 3.0, 20.0):
        shares = probabilities_of(logits, temperature)
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        assert (shares.argmax(axis=1) == logits.argmax(axis=1)).all()


def test_a_higher_temperature_is_less_sure() -> None:
    logits = np.array([[3.0, 1.0, 0.0]])
    sure = [probabilities_of(logits, one).max() for one in (0.5, 1.0, 4.0)]
    assert sure == sorted(sure, reverse=True)


def test_wild_logits_stay_finite() -> None:
    assert probabilities_of(np.array([[1e4, -1e4]]), 0.05).tolist() == [[1.0, 0.0]]


def test_the_error_is_that_of_the_formula() -> None:
    """Two bins by hand: 4 answers at 0.9, of which 2 are right; 1 at 0.5, right."""
    confidences = np.array([0.9, 0.9, 0.9, 0.9, 0.5])
    right = np.array([True, True, False, False, True])
    bins = reliability(confidences, right)
    assert bins == [Bin(1, 0.5, 1.0), Bin(4, pytest.approx(0.9), 0.5)]
    assert calibration_error(bins) == pytest.approx(4 / 5 * 0.4 + 1 / 5 * 0.5)


def test_bins_take_their_upper_edge_and_whole_confidence() -> None:
    assert len(reliability(np.array([1 / 15, 1.0]), np.array([True, True]))) == 2
    assert reliability(np.array([1.0]), np.array([False])) == [Bin(1, 1.0, 0.0)]


def test_a_calibrated_model_errs_by_chance_and_less_with_more_examples() -> None:
    draws = np.random.default_rng(1)
    found = []
    for count in (100, 10_000):
        confidences = draws.uniform(0.3, 1, count)
        right = draws.random(count) < confidences
        chance = error_by_chance(confidences)
        assert calibration_error(reliability(confidences, right)) < 2 * chance
        found.append(chance)
    assert found[1] < 0.2 * found[0]


def test_class_scores_are_those_of_scikit_learn() -> None:
    draws = np.random.default_rng(0)
    true, seen = draws.integers(0, 5, 300), draws.integers(0, 5, 300)
    confusion = [[int(((true == i) & (seen == j)).sum()) for j in range(5)] for i in range(5)]
    expected = precision_recall_fscore_support(true, seen)
    found = class_scores(confusion)
    np.testing.assert_allclose([one.precision for one in found], expected[0])
    np.testing.assert_allclose([one.recall for one in found], expected[1])
    np.testing.assert_allclose([one.f1 for one in found], expected[2])
    assert [one.examples for one in found] == expected[3].tolist()


def test_a_share_of_nothing_is_none() -> None:
    never_answered, absent = class_scores([[0, 2, 0], [0, 3, 0], [0, 0, 0]])[::2]
    assert (never_answered.precision, never_answered.recall, never_answered.f1) == (None, 0.0, 0.0)
    assert (absent.precision, absent.recall, absent.f1) == (None, None, None)
