"""A lower bound on epsilon from one training run (Steinke, Nasr, Jagielski 2023, arXiv 2305.08846).

Every one of m canaries takes part or not by its own fair coin. An auditor who sees what training
released guesses some of the coins. Under (epsilon, delta)-DP the number of right guesses is hardly
larger than a binomial with success probability e^epsilon / (1 + e^epsilon) (their theorem 5.2), so
too many right guesses refute the epsilon.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

CONFIDENCE = 0.95
LARGEST_EPSILON = 30.0  # no number of canaries that fits in memory shows more
GUESS_SHARES = (0.1, 0.2, 0.5, 1.0)  # of the canaries; the surest are guessed first


@dataclass(frozen=True)
class Bound:
    """A lower bound on epsilon that holds with the confidence asked for, and what it rests on."""

    epsilon: float
    guesses: int
    correct: int


def p_value(epsilon: float, *, canaries: int, guesses: int, correct: int, delta: float) -> float:
    """At most how likely (``epsilon``, ``delta``)-DP training allows ``correct`` right guesses.

    ``min(1, beta + 2 m delta alpha)`` with X ~ Bin(r, e^eps / (1 + e^eps)), beta = P[X >= v],
    alpha = max over i of P[v - i <= X < v] / i.
    """
    if correct == 0:
        return 1.0
    right = 1 / (1 + math.exp(-epsilon))
    beta = float(binom.sf(correct - 1, guesses, right))
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
    alpha = float(np.max(below / np.arange(1, correct + 1)))
    return min(1.0, beta + 2 * canaries * delta * alpha)


def epsilon_lower_bound(
    *, canaries: int, guesses: int, correct: int, delta: float, confidence: float = CONFIDENCE
) -> float:
    """The largest epsilon that ``correct`` of ``guesses`` right guesses refute; 0 if none.

    Args:
        canaries: all whose coins were thrown, guessed or not.
        guesses: how many were guessed, fixed without looking at the coins.
        correct: how many guesses were right.
        delta: at which epsilon is meant.
        confidence: one minus the probability that the bound lies above the truth.
    """
    low, high = 0.0, LARGEST_EPSILON
    facts = {"canaries": canaries, "guesses": guesses, "correct": correct, "delta": delta}
    if p_value(low, **facts) >= 1 - confidence:  # type: ignore[arg-type]
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if p_value(middle, **facts) < 1 - confidence:  # type: ignore[arg-type]
            low = middle
        else:
            high = middle
    return low


def bound_from_scores(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    delta: float,
    *,
    shares: Sequence[float] = GUESS_SHARES,
    confidence: float = CONFIDENCE,
) -> Bound:
    """The best bound over several numbers of guesses, at a confidence that covers the choice.

    The highest scores are guessed to be in, as many of the lowest to be out. Each number of
    guesses is a test of its own, so each gets its part of the error (Bonferroni).

    Args:
        scores: (m,) higher where the canary seems to have taken part.
        included: (m,) the coins.
        delta: at which epsilon is meant.
        shares: of the canaries to guess, one test each.
        confidence: of the bound that is returned.
    """
    order = np.argsort(-scores, kind="stable")
    each = 1 - (1 - confidence) / len(shares)
    best = Bound(0.0, 0, 0)
    for share in shares:
        side = int(share * len(scores) / 2)
        if side == 0:
            continue
        correct = int(included[order[:side]].sum() + (~included[order[-side:]]).sum())
        epsilon = epsilon_lower_bound(
            canaries=len(scores), guesses=2 * side, correct=correct, delta=delta, confidence=each
        )
        if epsilon > best.epsilon or best.guesses == 0:
            best = Bound(epsilon, 2 * side, correct)
    return best
