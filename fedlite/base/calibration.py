"""How sure a model is, against how often it is right: probabilities and their calibration error."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 15  # as in Guo et al. (2017)
CHANCE_DRAWS = 200


def probabilities_of(logits: NDArray[Any], temperature: float = 1.0) -> Floats:
    """Softmax of ``logits / temperature``, row by row: (n, classes), float64.

    A temperature above 1 makes a model less sure and never changes which class is the likeliest
    (Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599).
    """
    scaled = logits.astype(np.float64) / temperature
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: Floats = odds / odds.sum(axis=1, keepdims=True)
    return shares


@dataclass(frozen=True)
class Bin:
    """The examples whose confidence lies in one interval: how many, their mean confidence, and the
    share of them that is answered right."""

    examples: int
    confidence: float
    accuracy: float


def reliability(confidences: Floats, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """The bins of a reliability diagram that hold examples, the least sure first.

    ``bins`` intervals of equal width divide (0, 1], as in Guo et al. (2017).

    Args:
        confidences: (n,) probability of the class that is answered.
        right: (n,) whether that is the true class.
        bins: how many intervals.
    """
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for place in range(bins):
        inside = places == place
        if inside.any():
            means = float(confidences[inside].mean()), float(right[inside].mean())
            found.append(Bin(int(inside.sum()), *means))
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: ``sum over bins of |bin| / n * |accuracy - confidence|``
    (Naeini et al. 2015; Guo et al. 2017).

    >>> calibration_error([Bin(3, 0.9, 0.8), Bin(1, 0.5, 0.5)])
    0.075
    """
    examples = sum(one.examples for one in bins)
    apart = (one.examples * abs(one.accuracy - one.confidence) for one in bins)
    return round(sum(apart) / examples, 12)


def error_by_chance(confidences: Floats, bins: int = BINS) -> float:
    """The calibration error that a perfectly calibrated model of these confidences is expected to
    show, by the chance of so few examples alone.

    The mean over draws in which each answer is right with the probability that it claims
    ("consistency resampling", Bröcker and Smith 2007); the draws are the same every time.
    """
    draws = np.random.default_rng(0)
    errors = []
    for _ in range(CHANCE_DRAWS):
        right = draws.random(len(confidences)) < confidences
        errors.append(calibration_error(reliability(confidences, right, bins)))
    return float(np.mean(errors))
