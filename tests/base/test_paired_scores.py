"""Two models by macro-F1: the scores are scikit-learn's, and the interval covers what it says."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from fedlite.base.paired_scores import PairedScores

RNG = np.random.default_rng(0)


def answers(labels: np.ndarray, right: float, rng: np.random.Generator) -> np.ndarray:
    guesses = rng.integers(0, 3, len(labels))
    return np.where(rng.random(len(labels)) < right, labels, guesses)


def test_scores_are_those_of_scikit_learn() -> None:
    labels = RNG.choice(3, 200, p=(0.8, 0.15, 0.05))
    first, second = answers(labels, 0.5, RNG), answers(labels, 0.9, RNG)
    found = PairedScores.of(first, second, labels, 3)
    for one, score in ((first, found.first), (second, found.second)):
        assert score == pytest.approx(f1_score(labels, one, average="macro", labels=[0, 1, 2]))
    assert found == PairedScores.of(first, second, labels, 3)  # its draws are always the same
    assert found.low < found.gained < found.high
    assert found.verdict == "better"
    assert PairedScores.of(second, first, labels, 3).verdict == "worse"


def test_equal_models_are_no_different() -> None:
    labels = RNG.integers(0, 3, 60)
    found = PairedScores.of(labels, labels, labels, 3)
    assert (found.gained, found.low, found.high, found.verdict) == (0, 0, 0, "no difference")


def test_models_of_one_kind_are_rarely_told_apart() -> None:
    wrong = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.choice(3, 150, p=(0.7, 0.2, 0.1))
        first, second = answers(labels, 0.6, rng), answers(labels, 0.6, rng)
        wrong += PairedScores.of(first, second, labels, 3).verdict != "no difference"
    assert wrong <= 3
