"""Hard labels: the teacher's class beside the true one."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from fedlite.distill.loss import LogitLoss, Loss
from fedlite.distill.options import LossOptions


def hard_loss(student: Tensor, labels: Tensor, teacher: Tensor, *, alpha: float) -> Tensor:
    """``alpha * CE(labels) + (1 - alpha) * CE(the teacher's class)``; row i uses row i alone."""
    true = F.cross_entropy(student, labels, reduction="none")
    taught = F.cross_entropy(student, teacher.argmax(dim=1), reduction="none")
    return alpha * true + (1 - alpha) * taught


def build(options: LossOptions) -> Loss:
    """:func:`hard_loss` with the options' ``alpha``."""
    return LogitLoss(partial(hard_loss, alpha=options.alpha))
