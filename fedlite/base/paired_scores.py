"""Two models' macro-F1 on the same examples: how far apart, and whether beyond chance."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedlite.base.intervals import CONFIDENCE, Verdict

RESAMPLED = 2000  # times
ROUNDING = 1e-9  # scores nearer than this are equal

Classes = NDArray[np.int64]
"""(n,) numbers of classes."""


@dataclass(frozen=True)
class PairedScores:
    """The macro-F1 of two models on the same examples, and a 95% interval of second minus first."""

    first: float
    second: float
    low: float
    high: float

    @classmethod
    def of(cls, first: Classes, second: Classes, labels: Classes, num_classes: int) -> Self:
        """Compare what two models answer to the same examples, one or more.

        The interval is that of the percentiles of the bootstrap over examples (Efron and Tibshirani
        1993, "An Introduction to the Bootstrap", chapter 13), whose draws are always the same.
        """
        pairs = [labels * num_classes + answers for answers in (first, second)]

        def scores(rows: Any) -> tuple[float, float]:
            before, after = (_of_pairs(one[rows], num_classes) for one in pairs)
            return before, after

        draws = np.random.default_rng(0)
        gains = np.empty(RESAMPLED)
        for time in range(RESAMPLED):
            before, after = scores(draws.integers(0, len(labels), len(labels)))
            gains[time] = after - before
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(gains, (tail, 1 - tail))
        return cls(*scores(slice(None)), float(low), float(high))

    @property
    def gained(self) -> float:
        """By how much the second model is better; negative where it is worse."""
        found = self.second - self.first
        return 0.0 if abs(found) < ROUNDING else found

    @property
    def verdict(self) -> Verdict:
        """What the examples say of the second model against the first, beyond chance."""
        if self.low <= 0 <= self.high:
            return "no difference"
        return "better" if self.low > 0 else "worse"


def macro_f1(answers: Classes, labels: Classes, num_classes: int) -> float:
    """The mean F1 over all classes of ``answers`` (n,) to examples with ``labels`` (n,)."""
    return _of_pairs(labels * num_classes + answers, num_classes)


def _of_pairs(pairs: Classes, num_classes: int) -> float:
    """The mean over all classes of 2 TP / (2 TP + FP + FN), of places in the confusion matrix."""
    confusion = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    counted = confusion.sum(axis=0) + confusion.sum(axis=1)
    return float((2 * confusion.diagonal() / np.maximum(counted, 1)).mean())
