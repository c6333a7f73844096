"""Distillation losses as pure functions of logits and labels, one value per example."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fedlite.config import DistillConfig

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(student logits (n, C), labels (n,), teacher logits (n, C)) -> losses (n,)."""

RELATION_WEIGHT = 25.0  # of the distance term beside cross-entropy: Park et al. 2019, section 4.2


def soft_loss(
    student: Tensor, labels: Tensor, teacher: Tensor, *, alpha: float, temperature: float
) -> Tensor:
    """``alpha * CE + (1 - alpha) * T^2 * KL(teacher || student)`` at temperature T.

    Hinton, Vinyals and Dean 2015. T^2 keeps the gradient's size independent of T. Row i depends on
    row i alone, as DP-SGD needs.
    """
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="none",
        log_target=True,
    ).sum(dim=1)
    cross_entropy = F.cross_entropy(student, labels, reduction="none")
    return alpha * cross_entropy + (1 - alpha) * temperature**2 * divergence


def hard_loss(student: Tensor, labels: Tensor, teacher: Tensor, *, alpha: float) -> Tensor:
    """``alpha * CE(labels) + (1 - alpha) * CE(the teacher's class)``; row i uses row i alone."""
    true = F.cross_entropy(student, labels, reduction="none")
    taught = F.cross_entropy(student, teacher.argmax(dim=1), reduction="none")
    return alpha * true + (1 - alpha) * taught


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


def build_loss(config: DistillConfig) -> Loss:
    """The loss that ``config.loss`` names: ``soft``, ``hard`` or ``relational``.

    ``soft`` and ``hard`` separate by row; ``relational`` does not and must not meet DP-SGD.
    """
    alpha, temperature = config.alpha, config.temperature
    if config.loss == "soft":
        return lambda student, labels, teacher: soft_loss(
            student, labels, teacher, alpha=alpha, temperature=temperature
        )
    if config.loss == "hard":
        return lambda student, labels, teacher: hard_loss(student, labels, teacher, alpha=alpha)
    assert config.loss == "relational", config.loss
    return lambda student, labels, teacher: relational_loss(
        student, labels, teacher, alpha=alpha, temperature=temperature
    )
