"""LiRA's statistics on models whose confidences are known exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlite.audit.lira import (
    Attack,
    attack,
    balanced_members,
    confidence,
    likelihood_ratios,
)

DELTA = 1e-5


def simulated_attack(gap: float, *, targets: int = 4, shadows: int = 16) -> Attack:
    """Confidences are normal around a level of each candidate, ``gap`` higher for members."""
    rng = np.random.default_rng(1)
    candidates = 400
    members = np.concatenate(
        [rng.random((targets, candidates)) < 0.5, balanced_members(shadows, candidates, 2)]
    )
    levels = 3 * rng.normal(size=candidates)
    seen = levels + gap * members + rng.normal(size=members.shape)
    return attack(seen[:targets], members[:targets], seen[targets:], members[targets:], DELTA)


def test_confidence_is_the_logit_of_the_true_class() -> None:
    logits = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]], dtype=np.float32)
    p = np.exp(logits[0, 0]) / np.exp(logits[0]).sum()
    found = confidence(logits, np.array([0, 2]))
    assert found == pytest.approx([np.log(p / (1 - p)), np.log(0.5)])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 3e38])
def test_a_model_that_overflowed_has_a_finite_confidence(bad: float) -> None:
    logits = np.array([[bad, 0.0], [0.0, bad]], dtype=np.float32)
    assert np.isfinite(confidence(logits, np.array([0, 0]))).all()


@given(st.integers(4, 65), st.integers(1, 50), st.integers(0, 5))
def test_every_candidate_is_in_half_of_the_shadows(shadows: int, count: int, seed: int) -> None:
    assert (balanced_members(shadows, count, seed).sum(axis=0) == shadows // 2).all()


def test_a_confidence_like_that_of_members_scores_higher() -> None:
    members = balanced_members(8, 3, 0)
    shadows = members * 2.0 + 0.1 * np.random.default_rng(0).normal(size=members.shape)
    scores = likelihood_ratios(np.array([2.0, 0.0, 1.0]), shadows, members)
    assert scores[0] > 5
    assert scores[1] < -5
    assert abs(scores[2]) < abs(scores[0]) / 2


def test_the_attack_finds_what_there_is_to_find() -> None:
    """Two unit normals a distance d apart have an AUC of Phi(d / sqrt 2): 0.76 at d = 1."""
    found = simulated_attack(1.0)
    assert found.auc == pytest.approx(0.76, abs=0.04)
    assert found.tpr[0.01] > 3 * found.fpr[0.01]


def test_where_membership_leaves_no_trace_the_attack_finds_none() -> None:
    found = simulated_attack(0.0)
    assert found.auc == pytest.approx(0.5, abs=0.04)
    assert found.bound.epsilon < 0.3


def test_where_membership_is_plain_the_bound_is_large() -> None:
    found = simulated_attack(8.0)
    assert found.auc > 0.999
    assert found.bound.epsilon > 4


def test_thresholds_from_the_shadows_hold_on_the_targets() -> None:
    found = simulated_attack(1.0)
    assert found.fpr[0.01] == pytest.approx(0.01, abs=0.01)
    assert found.fpr[0.001] <= 0.006


def test_four_shadows_are_enough_to_run() -> None:
    assert 0 <= simulated_attack(1.0, targets=1, shadows=4).auc <= 1
