"""Rule 6: under DP the loss of one row depends on no other row."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedlite.config import Config, DistillConfig
from fedlite.distill.losses import build_loss
from fedlite.errors import UsageError
from fedlite.privacy import check_row_separable_loss


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_offered_losses_separate(kind: str, alpha: float) -> None:
    check_row_separable_loss(build_loss(DistillConfig(loss=kind, alpha=alpha, temperature=3.0)))


def test_relational_distillation_is_refused(tiny_config: Callable[..., Config]) -> None:
    with pytest.raises(UsageError, match=r"distill\.loss=relational"):
        tiny_config("distill=relational")
    tiny_config("distill=relational", "privacy=none")
    with pytest.raises(UsageError, match="depends on other rows"):
        check_row_separable_loss(build_loss(DistillConfig(loss="relational")))


def test_the_planted_bug_batch_standardised_logits_is_seen() -> None:
    def standardised(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
        normal = (student - student.mean(dim=0)) / (student.std(dim=0) + 1e-6)
        return torch.nn.functional.cross_entropy(normal, labels, reduction="none")

    with pytest.raises(UsageError, match="depends on other rows"):
        check_row_separable_loss(standardised)
