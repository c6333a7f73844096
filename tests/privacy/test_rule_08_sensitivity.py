"""Rule 8: one example moves the clipped sum by at most the clip norm."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedlite.compose import compose_config
from fedlite.config import DistillConfig
from fedlite.models.build import build_model
from fedlite.privacy import dp_sgd
from tests.conftest import TINY
from tests.privacy.world import batch, make_plan, update_of


def sensitivity(model: nn.Module, inputs: Tensor, labels: Tensor, distill: DistillConfig) -> float:
    """The change of the noiseless clipped sum when the last row, an outlier, is left out."""
    plan = make_plan(max_grad_norm=1.0)
    with_outlier = update_of(model, inputs, labels, plan, distill=distill)
    without = update_of(model, inputs[:-1], labels[:-1], plan, distill=distill)
    return float((with_outlier - without).norm())


def student(name: str) -> nn.Module:
    return build_model(compose_config([*TINY, f"student={name}"]).student, (1, 8, 8), 10, seed=0)


@pytest.mark.parametrize("name", ["cnn", "mobilenet", "mlp"])
@pytest.mark.parametrize("loss", ["soft", "hard"])
def test_an_outlier_moves_the_sum_by_at_most_the_clip_norm(name: str, loss: str) -> None:
    inputs, labels = batch((1, 8, 8), 9)
    inputs[-1] *= 1000
    moved = sensitivity(student(name), inputs, labels, DistillConfig(loss=loss, temperature=8.0))
    assert moved <= 1.0 + 1e-4


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-3, 1e6), seed=st.integers(0, 1000))
def test_no_scale_of_input_breaks_the_bound(scale: float, seed: int) -> None:
    inputs, labels = batch((1, 8, 8), 5, seed)
    inputs[-1] *= scale
    assert sensitivity(student("cnn"), inputs, labels, DistillConfig()) <= 1.0 + 1e-4


def test_batches_larger_than_memory_give_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = batch((1, 8, 8), 50)
    model = student("cnn")
    whole = update_of(model, inputs, labels, make_plan())
    monkeypatch.setattr(dp_sgd, "PHYSICAL_BATCH_SIZE", 7)
    parts = update_of(model, inputs, labels, make_plan())
    assert torch.allclose(whole, parts, atol=1e-5)


def test_the_planted_bug_no_clipping_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def sum_without_clipping(self: dp_sgd.PrivateOptimizer) -> None:
        for parameter in self.params:
            parameter.summed_grad = parameter.grad_sample.sum(dim=0)

    monkeypatch.setattr(dp_sgd.PrivateOptimizer, "clip_and_accumulate", sum_without_clipping)
    inputs, labels = batch((1, 8, 8), 9)
    inputs[-1] *= 1000
    assert sensitivity(student("mlp"), inputs, labels, DistillConfig()) > 1.5


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan"), 3e38])
def test_a_record_that_is_not_finite_leaves_the_weights_finite(bad: float) -> None:
    inputs, labels = batch((1, 8, 8), 6)
    inputs[2, 0, 3, 3] = bad
    plan = make_plan(noise_multiplier=0.0)
    moved = update_of(student("cnn"), inputs, labels, plan)
    assert torch.isfinite(moved).all()
    assert float(moved.norm()) <= len(labels) + 1e-4
