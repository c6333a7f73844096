"""A cascade: the student answers where it is sure, and the teacher where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlite.base.calibration import Floats
from fedlite.distill.options import CascadeOptions

PLACES = 101  # thresholds on a curve, at most
ROUNDING = 1e-9

Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Point:
    """A threshold, the share of examples whose confidence lies below it, and the accuracy when
    those are sent to the teacher."""

    threshold: float
    share: float
    accuracy: float


def thresholds_of(confidences: Floats) -> list[float]:
    """Thresholds that send from none to all of the examples, in steps of a hundredth or more.

    Args:
        confidences: (n,) of the student, calibrated, on public examples.
    """
    inner = np.quantile(confidences, np.linspace(0, 1, PLACES)[1:-1], method="lower")
    return [0.0, *(float(one) for one in np.unique(inner) if one > 0), 1.0 + ROUNDING]


def cascade_curve(
    confidences: Floats, student_right: Right, teacher_right: Right, thresholds: Sequence[float]
) -> list[Point]:
    """What each threshold comes to; the examples whose confidence is below it are sent.

    Args:
        confidences: (n,) of the student.
        student_right: (n,) whether its answer is right.
        teacher_right: (n,) whether the teacher's is.
        thresholds: in any order.
    """
    found = []
    for threshold in thresholds:
        sent = confidences < threshold
        right = np.where(sent, teacher_right, student_right)
        found.append(Point(threshold, float(sent.mean()), float(right.mean())))
    return found


def choose_point(public: Sequence[Point], options: CascadeOptions) -> int:
    """Which point of a curve on public data is wished for: its place.

    With ``options.accuracy`` the one of the smallest share that reaches it, or else the most
    accurate; without, the most accurate that sends no more than ``options.share``.
    """

    def best(places: Sequence[int]) -> int:
        return max(places, key=lambda place: (public[place].accuracy, -public[place].share))

    places = range(len(public))
    if options.accuracy is None:
        limit = options.share + ROUNDING
        return best([place for place in places if public[place].share <= limit])
    wished = options.accuracy - ROUNDING
    if reached := [place for place in places if public[place].accuracy >= wished]:
        return min(reached, key=lambda place: public[place].share)
    return best(places)
