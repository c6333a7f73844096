"""Rule 8: one example moves the clipped sum by at most the clip norm, with every engine."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from fedlite.distill.answers import Answers
from fedlite.distill.loss import TaughtExamples, build_loss
from fedlite.distill.options import DistillOptions
from fedlite.models.build import build_model
from fedlite.privacy import clipping
from fedlite.privacy.clipping import ClippedSum, Clipper, Engine, ExampleLosses, trained_parameters
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.randomness import SecureRandomness
from fedlite.runs.compose import compose_config
from tests.conftest import TINY
from tests.privacy.planted import (
    ClipsWider,
    Plant,
    SaysTheMeanIsTheSum,
    UnderstatesItsSensitivity,
    caught,
)
from tests.privacy.world import batch, make_plan, update_of
from tests.tasks import shaped

OPACUS = ENGINES["opacus"]

every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


def student(name: str) -> nn.Module:
    return build_model(
        compose_config([*TINY, f"student={name}"]).student, shaped((1, 8, 8), 10), seed=0
    )


def losses_of(inputs: Tensor, labels: Tensor) -> ExampleLosses:
    """The loss that students are taught with, on these examples."""
    taught = torch.randn((len(labels), 10), generator=torch.Generator().manual_seed(5))
    return TaughtExamples(build_loss(DistillOptions()), inputs, labels, Answers(taught))


# --- the checks -----------------------------------------------------------------------------


def check_sensitivity(
    model: nn.Module, scale: float, loss: str = "soft", seed: int = 0, engine: Engine = OPACUS
) -> None:
    """With and without an outlier, the noiseless clipped sums differ by at most the norm 1."""
    inputs, labels = batch((1, 8, 8), 9, seed)
    inputs[-1] *= scale
    distill = DistillOptions(loss=loss, temperature=8.0)
    plan = make_plan(max_grad_norm=1.0)
    with_outlier = update_of(model, inputs, labels, plan, distill=distill, engine=engine)
    without = update_of(model, inputs[:-1], labels[:-1], plan, distill=distill, engine=engine)
    moved = float((with_outlier - without).norm())
    assert moved <= 1.0 + 1e-4, f"one example moves the sum by {moved:.3g}"


def check_the_engine_s_word(engine: Engine, model: nn.Module, clip: float) -> None:
    """What an engine says of its sums' sensitivity is a constant, and no example moves one more."""
    inputs, labels = batch((1, 8, 8), 9)
    inputs[-1] *= 1000
    rows, silent = torch.arange(9), torch.tensor([], dtype=torch.long)
    with engine(model, losses_of(inputs, labels), clip) as gradients:
        sums = [gradients.clipped_sum(some) for some in (rows, rows[:-1], rows[3:], silent)]
    whole, without, *_ = sums
    assert len({one.sensitivity for one in sums}) == 1, "the sensitivity depends on the data"
    moved = distance(whole, without)
    assert moved <= whole.sensitivity * (1 + 1e-4), (
        f"one example moves the sum by {moved:.3g}, its engine says {whole.sensitivity:.3g}"
    )


def check_noise_hides_the_clip(engine: Engine) -> None:
    """The noise on the weights is that of the plan: noise multiplier times clip norm or more."""
    inputs, labels = batch((1, 8, 8), 5)
    plan = make_plan(max_grad_norm=0.5)
    noisy = replace(plan, noise_multiplier=3.0)
    model = student("mlp")
    quiet = update_of(model, inputs, labels, plan, engine=engine)
    noise = update_of(model, inputs, labels, noisy, randomness=SecureRandomness(), engine=engine)
    found = float((noise - quiet).std())
    assert found >= 0.95 * 1.5, f"noise of {found:.3g} on a clip that asks for 1.5"


def check_a_wild_record_does_no_harm(value: float, engine: Engine = OPACUS) -> None:
    inputs, labels = batch((1, 8, 8), 6)
    inputs[2, 0, 3, 3] = value
    moved = update_of(student("cnn"), inputs, labels, make_plan(), engine=engine)
    assert torch.isfinite(moved).all(), "the weights are not finite"
    assert float(moved.norm()) <= len(labels) + 1e-4


def distance(one: ClippedSum, other: ClippedSum) -> float:
    pairs = zip(one.value, other.value, strict=True)
    return float(torch.cat([(left - right).flatten() for left, right in pairs]).norm())


@every_engine
@pytest.mark.parametrize("name", ["cnn", "mobilenet", "mlp", "staged", "transformer"])
@pytest.mark.parametrize("loss", ["soft", "hard"])
def test_an_outlier_moves_the_sum_by_at_most_the_clip_norm(
    name: str, loss: str, engine: Engine
) -> None:
    check_sensitivity(student(name), 1000, loss, engine=engine)


@every_engine
@settings(max_examples=15)
@given(scale=st.floats(1e-3, 1e6), seed=st.integers(0, 1000))
def test_no_scale_of_input_breaks_the_bound(engine: Engine, scale: float, seed: int) -> None:
    check_sensitivity(student("cnn"), scale, seed=seed, engine=engine)


@every_engine
@pytest.mark.parametrize("clip", [1e-3, 1.0, 50.0])
def test_no_example_moves_a_sum_by_more_than_its_engine_says(engine: Engine, clip: float) -> None:
    check_the_engine_s_word(engine, student("cnn"), clip)


@every_engine
def test_the_noise_is_that_of_the_clip(engine: Engine) -> None:
    check_noise_hides_the_clip(engine)


@every_engine
@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan"), 3e38])
def test_a_record_that_is_not_finite_leaves_the_weights_finite(bad: float, engine: Engine) -> None:
    check_a_wild_record_does_no_harm(bad, engine)


# --- planted bugs of Opacus' clipping -------------------------------------------------------


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    def clip(self: Clipper) -> None:
        for parameter in self.params:
            parameter.summed_grad = parameter.grad_sample.sum(dim=0)

    patch.setattr(Clipper, "clip_and_accumulate", clip)


def each_layer_clipped_by_itself(patch: pytest.MonkeyPatch) -> None:
    def clip(self: Clipper) -> None:
        for parameter in self.params:
            norms = parameter.grad_sample.flatten(1).norm(dim=1)
            factors = (self.max_grad_norm / (norms + 1e-6)).clamp(max=1)
            parameter.summed_grad = torch.einsum("i,i...", factors, parameter.grad_sample)

    patch.setattr(Clipper, "clip_and_accumulate", clip)


def the_batch_clipped_as_a_whole(patch: pytest.MonkeyPatch) -> None:
    def clip(self: Clipper) -> None:
        sums = [parameter.grad_sample.sum(dim=0) for parameter in self.params]
        norm = torch.stack([total.norm() for total in sums]).norm()
        bound = self.max_grad_norm * len(self.params[0].grad_sample)
        for parameter, total in zip(self.params, sums, strict=True):
            parameter.summed_grad = total * (bound / (norm + 1e-6)).clamp(max=1)

    patch.setattr(Clipper, "clip_and_accumulate", clip)


@pytest.mark.parametrize(
    "plant", [no_clipping, each_layer_clipped_by_itself, the_batch_clipped_as_a_whole]
)
def test_planted_clipping_is_caught(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with caught("one example moves the sum"):
        check_sensitivity(student("mlp"), 1000)
    with caught("one example moves the sum"):
        check_the_engine_s_word(OPACUS, student("mlp"), 1.0)


def test_the_planted_bug_gradients_that_are_not_finite_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Opacus as it comes: NaN times a clip factor stays NaN."""
    monkeypatch.setattr(Clipper, "clip_and_accumulate", DPOptimizer.clip_and_accumulate)
    with caught("the weights are not finite"):
        check_a_wild_record_does_no_harm(float("nan"))


# --- planted engines ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planted", "because"),
    [
        (UnderstatesItsSensitivity, "one example moves the sum by 1, its engine says 0.25"),
        (ClipsWider, "one example moves the sum by 3.*, its engine says 1"),
        (SaysTheMeanIsTheSum, "the sensitivity depends on the data"),
    ],
)
def test_planted_engines_are_caught(planted: Engine, because: str) -> None:
    with caught(because):
        check_the_engine_s_word(planted, student("mlp"), 1.0)


def test_a_planted_engine_that_understates_its_sensitivity_is_caught_by_its_noise() -> None:
    with caught(r"noise of 0\.3[5-9]\d* on a clip that asks for 1\.5"):
        check_noise_hides_the_clip(UnderstatesItsSensitivity)


def test_a_planted_engine_that_clips_wider_is_caught_in_the_weights() -> None:
    with caught("one example moves the sum by 3"):
        check_sensitivity(student("mlp"), 1000, engine=ClipsWider)


# --- further promises -----------------------------------------------------------------------


@every_engine
def test_batches_larger_than_memory_give_the_same_sum(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, labels = batch((1, 8, 8), 50)
    model = student("cnn")
    whole = update_of(model, inputs, labels, make_plan(), engine=engine)
    monkeypatch.setattr(clipping, "PHYSICAL_BATCH_SIZE", 7)
    parts = update_of(model, inputs, labels, make_plan(), engine=engine)
    assert torch.allclose(whole, parts, atol=1e-5)


@every_engine
def test_the_sum_is_that_of_one_gradient_after_another(engine: Engine) -> None:
    """Against plain autograd, row by row; a parameter that is not trained has no part in it."""
    inputs, labels = batch((1, 8, 8), 6)
    model, losses = student("cnn"), losses_of(inputs, labels)
    next(model.parameters()).requires_grad_(requires_grad=False)
    parameters = trained_parameters(model)
    expected = [torch.zeros_like(parameter) for parameter in parameters]
    for row in (0, 2, 5):
        found = torch.autograd.grad(losses(model, torch.tensor([row])).sum(), parameters)
        norm = torch.cat([one.flatten() for one in found]).norm()
        for total, one in zip(expected, found, strict=True):
            total += one * (0.1 / norm).clamp(max=1)
    with engine(model, losses, 0.1) as gradients:
        for _ in range(2):  # a second sum begins anew
            total = gradients.clipped_sum(torch.tensor([0, 2, 5]))
    assert len(total.value) == len(expected)
    for one, other in zip(total.value, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@every_engine
def test_a_sum_over_nobody_is_zero_in_every_parameter(engine: Engine) -> None:
    model = student("cnn")
    with engine(model, losses_of(*batch((1, 8, 8), 3)), 1.0) as gradients:
        total = gradients.clipped_sum(torch.tensor([], dtype=torch.long))
    shapes = [parameter.shape for parameter in trained_parameters(model)]
    assert [value.shape for value in total.value] == shapes
    assert not any(value.any() for value in total.value)
