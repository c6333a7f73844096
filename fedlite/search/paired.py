"""Whether one student is better than another on the same examples, or only luckier."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlite.report.card import wilson_interval

Correct = NDArray[np.bool_]
"""(n,) whether a student is right about each example."""


@dataclass(frozen=True)
class Comparison:
    """Two students on ``examples``: ``won`` are those that only the first is right about, ``lost``
    those that only the second is.

    >>> better = Comparison(won=30, lost=10, examples=400)
    >>> f"{better.gain:.3f}", better.beyond_chance
    ('0.050', True)
    >>> Comparison(won=5, lost=2, examples=400).beyond_chance
    False
    """

    won: int
    lost: int
    examples: int

    @classmethod
    def of(cls, first: Correct, second: Correct) -> "Comparison":
        """Compare what two students got right of the same examples, in the same order."""
        assert first.shape == second.shape
        return cls(int((first & ~second).sum()), int((second & ~first).sum()), len(first))

    def __add__(self, other: "Comparison") -> "Comparison":
        """Both comparisons together, of other examples."""
        return Comparison(
            self.won + other.won, self.lost + other.lost, self.examples + other.examples
        )

    @property
    def gain(self) -> float:
        """The first one's accuracy minus the second one's."""
        return (self.won - self.lost) / self.examples

    @property
    def interval(self) -> tuple[float, float]:
        """Of the gain, at 95%: the Wilson score interval (Wilson 1927) of the share of the examples
        they disagree on that the first one is right about."""
        differing = self.won + self.lost
        if differing == 0:
            return 0.0, 0.0
        low, high = wilson_interval(self.won / differing, differing)
        scale = differing / self.examples
        return (2 * low - 1) * scale, (2 * high - 1) * scale

    @property
    def beyond_chance(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.interval[0] > 0
