"""Rule 6: under DP the loss of one row depends on no other row."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fedlite.base.errors import UsageError
from fedlite.distill.losses import Loss, build_loss
from fedlite.distill.options import DistillOptions
from fedlite.privacy.probe import check_row_separable_loss
from fedlite.runs.config import Config
from tests.privacy.planted import caught

ROWS, CLASSES = 6, 10


def check_rows_separate(loss: Loss) -> None:
    """Another row 0 leaves the gradients of all other rows as they were."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(ROWS) % CLASSES
    logits, teacher = torch.randn((2, ROWS, CLASSES), generator=generator)
    other_logits, other_teacher = logits.clone(), teacher.clone()
    other_logits[0], other_teacher[0] = 3 * torch.randn((2, CLASSES), generator=generator)

    def gradient(student: Tensor, taught: Tensor) -> Tensor:
        leaf = student.clone().requires_grad_()
        torch.autograd.backward(loss(leaf, labels, taught).sum())
        assert leaf.grad is not None
        return leaf.grad

    moved = (gradient(logits, teacher) - gradient(other_logits, other_teacher))[1:].abs().max()
    assert moved < 1e-6, f"the gradients of other rows moved by {moved:.2g}"


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_offered_losses_separate(kind: str, alpha: float) -> None:
    loss = build_loss(DistillOptions(loss=kind, alpha=alpha, temperature=3.0))
    check_rows_separate(loss)
    check_row_separable_loss(loss)


# --- planted bugs ---------------------------------------------------------------------------


def batch_standardised(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    normal = (student - student.mean(dim=0)) / (student.std(dim=0) + 1e-6)
    return F.cross_entropy(normal, labels, reduction="none")


def centred_teacher(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    taught = (teacher - teacher.mean(dim=0)).softmax(dim=1)
    return F.cross_entropy(student, taught, reduction="none")


def weighted_by_the_hardest_rows(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    losses = F.cross_entropy(student, labels, reduction="none")
    return losses * losses.detach().softmax(dim=0)


@pytest.mark.parametrize(
    "loss",
    [
        build_loss(DistillOptions(loss="relational")),
        batch_standardised,
        centred_teacher,
        weighted_by_the_hardest_rows,
    ],
    ids=["relational", "batch-standardised", "centred teacher", "hardest rows"],
)
def test_planted_losses_are_caught_and_refused(loss: Loss) -> None:
    with caught("the gradients of other rows moved"):
        check_rows_separate(loss)
    with pytest.raises(UsageError, match="depends on other rows"):
        check_row_separable_loss(loss)


def test_relational_distillation_is_refused_as_an_option(
    tiny_config: Callable[..., Config],
) -> None:
    with pytest.raises(UsageError, match=r"distill\.loss=relational"):
        tiny_config("distill=relational")
    tiny_config("distill=relational", "privacy=none")
