"""How sure a share is, and whether two models differ on the same examples: exact, and named."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
Verdict = Literal["better", "worse", "no difference"]

Right = NDArray[np.bool_]
"""(n,) whether a model answers each of n examples right."""


def wilson_interval(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """A confidence interval of a probability, from the share of successes in ``count`` trials.

    The score interval of Wilson (1927), "Probable inference, the law of succession, and
    statistical inference"; ``z`` is the normal quantile, by default that of 95%. Without a trial
    it is everything.
    """
    if count == 0:
        return 0.0, 1.0
    spread = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    centre, whole = share + z * z / (2 * count), 1 + z * z / count
    return max(0.0, (centre - spread) / whole), min(1.0, (centre + spread) / whole)


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the same examples, in numbers of examples.

    ``both_right`` were answered right by both, ``only_first`` and ``only_second`` by one of them
    alone; the rest by none. All that is said of the two follows from these four numbers.
    """

    examples: int
    both_right: int
    only_first: int
    only_second: int

    def __post_init__(self) -> None:
        """Counts are counts of the same examples."""
        parts = (self.both_right, self.only_first, self.only_second)
        assert min(parts) >= 0
        assert sum(parts) <= self.examples

    @classmethod
    def of(cls, first: Right, second: Right) -> Self:
        """Compare what two models got right of the same examples, in the same order."""
        assert first.shape == second.shape
        return cls(
            examples=len(first),
            both_right=int((first & second).sum()),
            only_first=int((first & ~second).sum()),
            only_second=int((second & ~first).sum()),
        )

    @property
    def first_right(self) -> int:
        """Examples that the first model answers right."""
        return self.both_right + self.only_first

    @property
    def second_right(self) -> int:
        """Examples that the second model answers right."""
        return self.both_right + self.only_second

    @property
    def accuracies(self) -> tuple[float, float]:
        """Of the first and of the second model."""
        return self.first_right / self.examples, self.second_right / self.examples

    @property
    def gained(self) -> int:
        """By how many examples more the second model is right; negative where it is fewer."""
        return self.only_second - self.only_first

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided: how often chance alone tells them apart so far.

        Where only one of the two is right, under no difference either is with probability 1/2
        (McNemar 1947, "Note on the sampling error of the difference between correlated proportions
        or percentages", with the binomial itself for its normal approximation).
        """
        from scipy.stats import binom  # late: slow to load, and reports are written without it

        apart = self.only_first + self.only_second
        tail = binom.cdf(min(self.only_first, self.only_second), apart, 0.5)
        return min(1.0, 2 * float(tail))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the second model's accuracy minus the first's.

        Of the share of wins among the examples on which the two differ, exact (Clopper and Pearson
        1934), given how many those are: it leaves out 0 just where :attr:`p_value` is below 5%.
        """
        apart = self.only_first + self.only_second
        if apart == 0:
            return 0.0, 0.0
        from scipy.stats import beta  # late, as above

        tail, won, lost = (1 - CONFIDENCE) / 2, self.only_second, self.only_first
        low = float(beta.ppf(tail, won, lost + 1)) if won else 0.0
        high = float(beta.ppf(1 - tail, won + 1, lost)) if lost else 1.0
        return (2 * low - 1) * apart / self.examples, (2 * high - 1) * apart / self.examples

    @property
    def verdict(self) -> Verdict:
        """What the examples say of the second model against the first, beyond chance."""
        if self.p_value >= 1 - CONFIDENCE:
            return "no difference"
        return "better" if self.gained > 0 else "worse"


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean that two or more independent ``values`` are drawn around: Student's
    t ("The probable error of a mean", 1908)."""
    from scipy.stats import t  # late, as above

    mean, count = statistics.mean(values), len(values)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, count - 1))
    half = quantile * statistics.stdev(values) / math.sqrt(count)
    return mean - half, mean + half
