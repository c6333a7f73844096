"""Precision, recall and F1 of each class, from a confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassScores:
    """One class on so many ``examples`` of it; ``answered`` counts the answers that named it.

    ``precision`` is the share of those answers that are right, ``recall`` the share of the examples
    that are answered so, ``f1`` their harmonic mean, ``2 right / (examples + answered)``. A share
    of nothing is None.
    """

    examples: int
    answered: int
    right: int

    @property
    def precision(self) -> float | None:
        return self.right / self.answered if self.answered else None

    @property
    def recall(self) -> float | None:
        return self.right / self.examples if self.examples else None

    @property
    def f1(self) -> float | None:
        both = self.examples + self.answered
        return 2 * self.right / both if both else None


def class_scores(confusion: Sequence[Sequence[int]]) -> list[ClassScores]:
    """The scores of all classes; ``confusion[i][j]`` examples of class i were answered with j.

    >>> [one.precision for one in class_scores([[3, 1], [0, 0]])]
    [1.0, 0.0]
    """
    return [
        ClassScores(
            examples=sum(row),
            answered=sum(other[place] for other in confusion),
            right=row[place],
        )
        for place, row in enumerate(confusion)
    ]
