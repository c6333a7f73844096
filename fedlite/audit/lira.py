"""The likelihood-ratio attack LiRA (Carlini et al. 2022, arXiv 2112.03570) as pure functions.

Shadow models, trained with and without each candidate, show how confident a model is in a candidate
that it has seen and in one that it has not. The attack asks which of the two fits the target.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from fedlite.audit.one_run import CONFIDENCE, Bound, bound_from_scores, epsilon_lower_bound
from fedlite.report.audit_sections import AttackEntry

Floats = NDArray[np.float64]
Members = NDArray[np.bool_]

FALSE_POSITIVE_RATES = (0.01, 0.001)
GUESS_SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_LARGEST_MARGIN = 1e6  # of a model whose logits overflowed


def confidence(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Floats:
    """The logit of the true class's probability, ``log(p / (1 - p))``, for each row.

    Computed from the logits (n, C) directly, so that it stays exact where p is nearly 1.
    """
    values = np.nan_to_num(logits.astype(np.float64), posinf=_LARGEST_MARGIN, neginf=-1e6)
    rows = np.arange(len(labels))
    true = values[rows, labels]
    others = values.copy()
    others[rows, labels] = -np.inf
    margin: Floats = true - logsumexp(others, axis=1)
    return margin.clip(-_LARGEST_MARGIN, _LARGEST_MARGIN)


def likelihood_ratios(target: Floats, shadows: Floats, members: Members) -> Floats:
    """The online attack's score of every candidate: log N(in) - log N(out).

    One Gaussian for each candidate and side, with its own mean and, as the paper advises for fewer
    than 64 shadows on a side, a variance shared by all candidates.

    Args:
        target: (m,) confidences of the attacked model.
        shadows: (S, m) confidences of the shadow models.
        members: (S, m) whether a shadow was trained on a candidate; every candidate needs both.
    """
    scores = np.zeros(len(target))
    for side, sign in ((members, 1.0), (~members, -1.0)):
        counts = side.sum(axis=0)
        mean = np.where(side, shadows, 0).sum(axis=0) / counts
        squares = np.where(side, (shadows - mean) ** 2, 0).sum()
        spread = np.sqrt(squares / max(1, counts.sum() - len(counts))) + 1e-9
        scores += sign * norm.logpdf(target, mean, spread)
    return scores


def balanced_members(shadows: int, candidates: int, seed: int) -> Members:
    """(S, m) memberships in which every candidate is in half of the shadows."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(shadows)[:, None], (1, candidates)), axis=0)
    return order < shadows // 2


@dataclass(frozen=True)
class Attack:
    """What the attack achieved on the targets, with every threshold fixed on the shadows alone.

    ``tpr`` and ``fpr`` are by the false-positive rate that a threshold was set for. ``scores`` and
    ``members`` are those of all targets, flattened.
    """

    auc: float
    tpr: dict[float, float]
    fpr: dict[float, float]
    bound: Bound
    scores: Floats
    members: Members

    def record(self) -> AttackEntry:
        """The entry of ``audits.json``."""
        return {
            "auc": self.auc,
            "tpr": {f"{rate:g}": value for rate, value in self.tpr.items()},
            "fpr": {f"{rate:g}": value for rate, value in self.fpr.items()},
            "lower_bound": self.bound.epsilon,
            "confidence": CONFIDENCE,
            "guesses": self.bound.guesses,
            "correct": self.bound.correct,
            "trials": len(self.scores),
        }


def attack(
    targets: Floats,
    target_members: Members,
    shadows: Floats,
    shadow_members: Members,
    delta: float,
    *,
    confidence: float = CONFIDENCE,
) -> Attack:
    """Attack the targets with all shadows.

    Thresholds come from attacking each shadow with the other ones. The epsilon bound is that of
    :mod:`fedlite.audit.one_run` over the coins of all targets: no target is a shadow of another,
    and the guesses to make were fixed beforehand, so it is one test.

    Args:
        targets: (T, m) confidences of the targets in the m candidates.
        target_members: (T, m) their coins, fair and independent.
        shadows: (S, m) confidences of the shadows, S of 4 or more.
        shadow_members: (S, m) from :func:`balanced_members`.
        delta: at which epsilon is meant.
        confidence: of the bound.
    """
    rest = [np.arange(len(shadows)) != one for one in range(len(shadows))]
    known = np.concatenate(
        [
            likelihood_ratios(shadows[~others][0], shadows[others], shadow_members[others])
            for others in rest
        ]
    )
    known_members = shadow_members.reshape(-1)
    scores = np.concatenate([likelihood_ratios(one, shadows, shadow_members) for one in targets])
    members = target_members.reshape(-1)

    outside = known[~known_members]
    thresholds = {rate: float(np.quantile(outside, 1 - rate)) for rate in FALSE_POSITIVE_RATES}
    share = _best_share(known, known_members, delta)
    low, high = np.quantile(known, [share / 2, 1 - share / 2])
    guessed_in, guessed_out = scores > high, scores <= low
    correct = int((members & guessed_in).sum() + (~members & guessed_out).sum())
    guesses = int(guessed_in.sum() + guessed_out.sum())
    epsilon = epsilon_lower_bound(
        canaries=len(scores),
        guesses=guesses,
        correct=correct,
        delta=delta,
        confidence=confidence,
    )
    return Attack(
        auc=float(roc_auc_score(members, scores)),
        tpr={r: float((scores[members] > t).mean()) for r, t in thresholds.items()},
        fpr={r: float((scores[~members] > t).mean()) for r, t in thresholds.items()},
        bound=Bound(epsilon, guesses, correct),
        scores=scores,
        members=members,
    )


def _best_share(scores: Floats, members: Members, delta: float) -> float:
    """The share of candidates whose guessing gives the best bound on these."""
    bounds = [bound_from_scores(scores, members, delta, shares=[s]).epsilon for s in GUESS_SHARES]
    return GUESS_SHARES[int(np.argmax(bounds))]
