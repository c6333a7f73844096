"""Rule 8: one example moves the clipped sum by at most the clip norm."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.optimizers import DPOptimizer
from torch import nn

from fedlite.distill.options import DistillOptions
from fedlite.models.build import build_model
from fedlite.privacy import dp_sgd
from fedlite.runs.compose import compose_config
from tests.conftest import TINY
from tests.privacy.planted import Plant, caught
from tests.privacy.world import batch, make_plan, update_of
from tests.tasks import shaped


def student(name: str) -> nn.Module:
    return build_model(
        compose_config([*TINY, f"student={name}"]).student, shaped((1, 8, 8), 10), seed=0
    )


# --- the checks -----------------------------------------------------------------------------


def check_sensitivity(model: nn.Module, scale: float, loss: str = "soft", seed: int = 0) -> None:
    """With and without an outlier, the noiseless clipped sums differ by at most the norm 1."""
    inputs, labels = batch((1, 8, 8), 9, seed)
    inputs[-1] *= scale
    distill = DistillOptions(loss=loss, temperature=8.0)
    plan = make_plan(max_grad_norm=1.0)
    with_outlier = update_of(model, inputs, labels, plan, distill=distill)
    without = update_of(model, inputs[:-1], labels[:-1], plan, distill=distill)
    moved = float((with_outlier - without).norm())
    assert moved <= 1.0 + 1e-4, f"one example moves the sum by {moved:.3g}"


def check_a_wild_record_does_no_harm(value: float) -> None:
    inputs, labels = batch((1, 8, 8), 6)
    inputs[2, 0, 3, 3] = value
    moved = update_of(student("cnn"), inputs, labels, make_plan())
    assert torch.isfinite(moved).all(), "the weights are not finite"
    assert float(moved.norm()) <= len(labels) + 1e-4


@pytest.mark.parametrize("name", ["cnn", "mobilenet", "mlp", "staged", "transformer"])
@pytest.mark.parametrize("loss", ["soft", "hard"])
def test_an_outlier_moves_the_sum_by_at_most_the_clip_norm(name: str, loss: str) -> None:
    check_sensitivity(student(name), 1000, loss)


@settings(max_examples=15)
@given(scale=st.floats(1e-3, 1e6), seed=st.integers(0, 1000))
def test_no_scale_of_input_breaks_the_bound(scale: float, seed: int) -> None:
    check_sensitivity(student("cnn"), scale, seed=seed)


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan"), 3e38])
def test_a_record_that_is_not_finite_leaves_the_weights_finite(bad: float) -> None:
    check_a_wild_record_does_no_harm(bad)


# --- planted bugs ---------------------------------------------------------------------------


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    def clip(self: dp_sgd.PrivateOptimizer) -> None:
        for parameter in self.params:
            parameter.summed_grad = parameter.grad_sample.sum(dim=0)

    patch.setattr(dp_sgd.PrivateOptimizer, "clip_and_accumulate", clip)


def each_layer_clipped_by_itself(patch: pytest.MonkeyPatch) -> None:
    def clip(self: dp_sgd.PrivateOptimizer) -> None:
        for parameter in self.params:
            norms = parameter.grad_sample.flatten(1).norm(dim=1)
            factors = (self.max_grad_norm / (norms + 1e-6)).clamp(max=1)
            parameter.summed_grad = torch.einsum("i,i...", factors, parameter.grad_sample)

    patch.setattr(dp_sgd.PrivateOptimizer, "clip_and_accumulate", clip)


def the_batch_clipped_as_a_whole(patch: pytest.MonkeyPatch) -> None:
    def clip(self: dp_sgd.PrivateOptimizer) -> None:
        sums = [parameter.grad_sample.sum(dim=0) for parameter in self.params]
        norm = torch.stack([total.norm() for total in sums]).norm()
        bound = self.max_grad_norm * len(self.params[0].grad_sample)
        for parameter, total in zip(self.params, sums, strict=True):
            parameter.summed_grad = total * (bound / (norm + 1e-6)).clamp(max=1)

    patch.setattr(dp_sgd.PrivateOptimizer, "clip_and_accumulate", clip)


@pytest.mark.parametrize(
    "plant", [no_clipping, each_layer_clipped_by_itself, the_batch_clipped_as_a_whole]
)
def test_planted_clipping_is_caught(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with caught("one example moves the sum"):
        check_sensitivity(student("mlp"), 1000)


def test_the_planted_bug_gradients_that_are_not_finite_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Opacus as it comes: NaN times a clip factor stays NaN."""
    monkeypatch.setattr(
        dp_sgd.PrivateOptimizer, "clip_and_accumulate", DPOptimizer.clip_and_accumulate
    )
    with caught("the weights are not finite"):
        check_a_wild_record_does_no_harm(float("nan"))


# --- further promises -----------------------------------------------------------------------


def test_batches_larger_than_memory_give_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = batch((1, 8, 8), 50)
    model = student("cnn")
    whole = update_of(model, inputs, labels, make_plan())
    monkeypatch.setattr(dp_sgd, "PHYSICAL_BATCH_SIZE", 7)
    parts = update_of(model, inputs, labels, make_plan())
    assert torch.allclose(whole, parts, atol=1e-5)
