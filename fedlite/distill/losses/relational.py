"""Soft labels and distances between rows (Park et al. 2019, RKD-D); never under DP-SGD."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fedlite.distill.loss import LogitLoss, Loss
from fedlite.distill.losses.soft import soft_loss
from fedlite.distill.options import LossOptions

RELATION_WEIGHT = 25.0  # of the distance term beside cross-entropy: Park et al. 2019, section 4.2


def relational_loss(
    student: Tensor, labels: Tensor, teacher: Tensor, *, alpha: float, temperature: float
) -> Tensor:
    """:func:`soft_loss` plus the distance-wise relational term RKD-D of Park et al. 2019.

    Logits of two rows shall lie as far apart in the student as in the teacher, in units of the
    batch's mean distance (Huber loss, weight ``(1 - alpha) * 25``). Row i holds the mean over its
    pairs, so it depends on **all** rows: clipping per example does not bound one example's
    influence, and the loss is for training without differential privacy only.
    """
    difference = F.smooth_l1_loss(_distances(student), _distances(teacher), reduction="none")
    relation = difference.sum(dim=1) / max(len(student), 1)
    soft = soft_loss(student, labels, teacher, alpha=alpha, temperature=temperature)
    return soft + (1 - alpha) * RELATION_WEIGHT * relation


def _distances(logits: Tensor) -> Tensor:
    """Pairwise Euclidean distances (n, n) over the mean of the positive ones."""
    distances = torch.cdist(logits, logits, compute_mode="donot_use_mm_for_euclid_dist")
    positive = distances > 0
    return distances * positive.sum() / distances.sum().clamp(min=1e-12)


def build(options: LossOptions) -> Loss:
    """:func:`relational_loss` with the options' ``alpha`` and ``temperature``."""
    return LogitLoss(partial(relational_loss, alpha=options.alpha, temperature=options.temperature))
