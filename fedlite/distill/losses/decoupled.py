"""Decoupled knowledge distillation (Zhao et al. 2022): target and other classes by themselves."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fedlite.distill.loss import LogitLoss, Loss
from fedlite.distill.options import LossOptions

OTHERS_WEIGHT = 8.0  # beta of Zhao et al. 2022 on CIFAR-100, where the weight is left open


def decoupled_loss(
    student: Tensor,
    labels: Tensor,
    teacher: Tensor,
    *,
    alpha: float,
    temperature: float,
    weight: float = OTHERS_WEIGHT,
) -> Tensor:
    """``alpha * CE + (1 - alpha) * T^2 * (TCKD + weight * NCKD)`` at temperature T.

    Zhao et al. 2022, *Decoupled knowledge distillation*, equation 7 with their alpha at 1. TCKD is
    the divergence of the true class against all others together, NCKD that among the others. In
    soft labels the second weighs as much as the teacher doubts: ``KL = TCKD + (1 - p) * NCKD``,
    where p is what the teacher gives the true class. Row i depends on row i alone.
    """
    own, taught = _split(student / temperature, labels), _split(teacher / temperature, labels)
    target, others = (
        F.kl_div(mine, theirs, reduction="none", log_target=True).sum(dim=1)
        for mine, theirs in zip(own, taught, strict=True)
    )
    cross_entropy = F.cross_entropy(student, labels, reduction="none")
    divergence = temperature**2 * (target + weight * others)
    return alpha * cross_entropy + (1 - alpha) * divergence


def _split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities of the true class and of all others together (n, 2), and of the others
    among themselves (n, classes - 1)."""
    true = F.one_hot(labels, logits.shape[1]).bool()
    others = logits[~true].reshape(len(logits), logits.shape[1] - 1)
    both = torch.stack([logits[true], others.logsumexp(dim=1)], dim=1)
    return both.log_softmax(dim=1), others.log_softmax(dim=1)


def build(options: LossOptions) -> Loss:
    """:func:`decoupled_loss` with the options' ``alpha``, ``temperature`` and ``weight``."""
    weight = OTHERS_WEIGHT if options.weight is None else options.weight
    return LogitLoss(
        partial(decoupled_loss, alpha=options.alpha, temperature=options.temperature, weight=weight)
    )
