"""Soft labels (Hinton, Vinyals and Dean 2015)."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from fedlite.distill.loss import LogitLoss, Loss
from fedlite.distill.options import LossOptions


def soft_loss(
    student: Tensor, labels: Tensor, teacher: Tensor, *, alpha: float, temperature: float
) -> Tensor:
    """``alpha * CE + (1 - alpha) * T^2 * KL(teacher || student)`` at temperature T.

    Hinton, Vinyals and Dean 2015. T^2 keeps the gradient's size independent of T. Row i depends on
    row i alone, as DP-SGD needs.

    >>> import torch
    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])
    >>> soft_loss(logits, labels, logits, alpha=0.5, temperature=4.0)  # half the cross entropy
    tensor([0.0635, 1.0635])
    """
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="none",
        log_target=True,
    ).sum(dim=1)
    cross_entropy = F.cross_entropy(student, labels, reduction="none")
    return alpha * cross_entropy + (1 - alpha) * temperature**2 * divergence


def build(options: LossOptions) -> Loss:
    """:func:`soft_loss` with the options' ``alpha`` and ``temperature``."""
    return LogitLoss(partial(soft_loss, alpha=options.alpha, temperature=options.temperature))
