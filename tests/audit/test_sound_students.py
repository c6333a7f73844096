"""Students that a run may have, and an audit must not refuse: very few weights, very large ones."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fedlite.audit.audited import AuditedRun
from fedlite.audit.canaries import SMALL_STEP, small_step
from fedlite.audit.dirac import one_hot_target
from tests.audit.test_planted import SMALL, found


class FewWeights(nn.Module):
    """20 weights: canaries leave next to nothing of a release to noise alone."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(2, num_classes, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of two pixels."""
        logits: Tensor = self.head(inputs.flatten(1)[:, [20, 40]])
        return logits


class LargeWeights(nn.Module):
    """Weights up to 375, where float32 rounds as coarsely as 3e-5."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 12), nn.Linear(12, num_classes)
        self.first.weight.data.mul_(3000)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of an image."""
        logits: Tensor = self.head((self.first(inputs.flatten(1)) / 3000).tanh())
        return logits


@pytest.mark.slow
@pytest.mark.parametrize("student", [FewWeights, LargeWeights])
def test_a_sound_student_passes(
    student: type[nn.Module], audited_run: Callable[..., AuditedRun]
) -> None:
    options = [one for one in SMALL if not one.startswith("student")]
    module = f"student.module={__name__}.{student.__name__}"
    assert found(audited_run(*options, "student=custom", module, rounds=4)) == []


def test_a_small_step_is_far_beyond_the_rounding_of_the_largest_weight(
    audited_run: Callable[..., AuditedRun],
) -> None:
    target = one_hot_target(audited_run(*SMALL, rounds=4), 40)
    assert small_step(target, 1) == SMALL_STEP
    state = {name: torch.full_like(v, 375.0) for name, v in target.networks.student_state.items()}
    large = replace(target, networks=replace(target.networks, student_state=state))
    spacing = torch.tensor(375.0).nextafter(torch.tensor(400.0)) - 375.0
    assert small_step(large, 1) > 10 * float(spacing)
    assert small_step(large, 4) == pytest.approx(2 * small_step(large, 1))
