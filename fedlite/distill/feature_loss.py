"""Losses of features: soft labels, and a term of what student and teacher hold at their taps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from fedlite.base.errors import UsageError
from fedlite.distill.answers import Answers
from fedlite.distill.losses.soft import soft_loss
from fedlite.distill.options import LossOptions

Term = Callable[[Tensor, Tensor], Tensor]
"""(student's features (n, ...), teacher's (n, ...)) -> (n,); row i looks at row i alone."""


@dataclass(frozen=True)
class FeatureLoss:
    """:func:`~fedlite.distill.losses.soft.soft_loss` and ``(1 - alpha) * weight`` times the sum of
    ``term`` over pairs of taps; row i depends on row i alone where the term does."""

    student_taps: Sequence[str]
    teacher_taps: Sequence[str]
    term: Term
    weight: float
    alpha: float
    temperature: float

    @classmethod
    def of(
        cls,
        options: LossOptions,
        taps: tuple[Sequence[str], Sequence[str]],
        term: Term,
        weight: float,
    ) -> "FeatureLoss":
        """With ``weight`` where the options leave it open; ``taps`` of student and of teacher."""
        given = weight if options.weight is None else options.weight
        return cls(*taps, term, given, options.alpha, options.temperature)

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        """Losses (n,)."""
        soft = soft_loss(
            student.logits, labels, teacher.logits, alpha=self.alpha, temperature=self.temperature
        )
        for own, taught in zip(self.student_taps, self.teacher_taps, strict=True):
            term = self.term(student.features[own], teacher.features[taught])
            soft = soft + (1 - self.alpha) * self.weight * term
        return soft


def on_one_grid(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Two features (n, channels, *places), averaged onto the coarser grid of both, or over all
    places where they have not the same number of dimensions: (n, channels, places) each."""
    if one.ndim != other.ndim or one.ndim == 2:
        return _over_places(one), _over_places(other)
    size = [min(sizes) for sizes in zip(one.shape[2:], other.shape[2:], strict=True)]
    own, taught = (F.interpolate(maps, size, mode="area") for maps in (one, other))
    return own.flatten(2), taught.flatten(2)


def _over_places(maps: Tensor) -> Tensor:
    return maps.unsqueeze(-1).flatten(2).mean(dim=2, keepdim=True)


def check_shapes(loss: str, own: Tensor, taught: Tensor, dims: range) -> None:
    """Refuse features of other numbers of dimensions than ``dims``, the examples' among them.

    Raises:
        UsageError: says what both answer.
    """
    if own.ndim not in dims or taught.ndim not in dims:
        shapes = [tuple(one.shape[1:]) for one in (own, taught)]
        raise UsageError(
            f"distill.loss={loss}: the tapped layers of student and teacher hold {shapes[0]} and"
            f" {shapes[1]} of an example; it takes {dims.start - 1} to {dims.stop - 2} dimensions"
        )
