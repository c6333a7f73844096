"""Gradient inversion sees everything without noise and nothing with it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedlite.audit.attack_charts import inverted_example
from fedlite.audit.inversion import (
    Inversion,
    centred_cosine,
    dense_input,
    first_dense_input,
    invert,
    observed_gradients,
)
from fedlite.data.types import PublicData
from fedlite.distill.answers import Answers
from fedlite.distill.loss import build_loss
from fedlite.federation.plans import Plans
from fedlite.models.build import build_model
from fedlite.privacy.randomness import DeterministicRandomness
from fedlite.report.drawing import figure_pixels
from tests.audit.conftest import World


def inverted(world: World, student: nn.Module, *, steps: int = 1, plans: Plans) -> Inversion:
    """The attack on one public example."""
    public, loss = world.splits.public, build_loss(world.config.distill)
    planted = PublicData(public.inputs[3:4], public.labels[3:4])
    taught = Answers(torch.zeros(1, 10))
    gradients = observed_gradients(
        student, loss, planted, taught, plans, 0.5, DeterministicRandomness(0)
    )
    bounds = (float(public.inputs.min()), float(public.inputs.max()))
    return invert(student, loss, planted, taught, gradients, steps=steps, seed=0, bounds=bounds)


def student_of(world: World) -> nn.Module:
    return build_model(world.config.student, world.splits.task, seed=0)


@pytest.mark.parametrize("privacy", ["example", "client"])
def test_a_dense_student_gives_the_example_away_until_there_is_noise(
    audit_world: Callable[..., World], privacy: str
) -> None:
    world = audit_world("student=mlp", f"privacy={privacy}")
    found = inverted(world, student_of(world), plans=world.audited.plans)
    assert found.method == "closed form"
    assert found.cosine["plain"] > 0.999
    assert found.cosine["clipped"] > 0.999
    assert abs(found.cosine["noised"]) < 0.5
    assert abs(found.features_cosine["noise_alone"]) < 0.5


def test_without_privacy_there_is_nothing_but_the_plain_gradient(
    audit_world: Callable[..., World],
) -> None:
    world = audit_world("student=mlp", "privacy=none")
    found = inverted(world, student_of(world), plans=Plans())
    assert list(found.reconstructions) == ["plain"]
    assert found.cosine["plain"] > 0.999


def test_a_convolutional_student_gives_its_features_away(
    audit_world: Callable[..., World],
) -> None:
    world = audit_world()
    found = inverted(world, student_of(world), plans=world.audited.plans)
    assert found.layer == "classifier.0"
    assert found.features_cosine["plain"] > 0.999
    assert found.features_cosine["clipped"] > 0.999
    assert abs(found.features_cosine["noised"]) < 0.4


@pytest.mark.slow
def test_the_search_finds_the_example_behind_a_convolution(
    audit_world: Callable[..., World],
) -> None:
    world = audit_world()
    found = inverted(world, student_of(world), steps=200, plans=Plans())
    assert found.cosine["plain"] > 0.9
    assert found.reconstructions["plain"].shape == found.original.shape


def test_a_student_that_hides_its_input_gives_its_features_away(
    audit_world: Callable[..., World],
) -> None:
    world = audit_world("student=scattering", "student.kwargs.orientations=2")
    found = inverted(world, student_of(world), plans=world.audited.plans)
    assert found.shown == "features"
    assert found.cosine["plain"] > 0.999
    assert abs(found.cosine["noised"]) < 0.8
    figure = inverted_example(found, world.splits.task, 1.0)
    assert figure_pixels(figure).std() > 10


def test_the_student_is_not_changed(audit_world: Callable[..., World]) -> None:
    world = audit_world()
    student = student_of(world)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    inverted(world, student, plans=world.audited.plans)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize("with_bias", [True, False])
def test_a_dense_gradient_of_one_example_is_an_outer_product(with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.rand(20, generator=generator)
    bias: Tensor = torch.randn(5, generator=generator)
    found = dense_input(torch.outer(bias, wanted), bias if with_bias else None)
    assert centred_cosine(found, wanted) == pytest.approx(1)
    if with_bias:
        assert torch.allclose(found, wanted, atol=1e-5)


def test_a_network_without_a_dense_layer_is_searched_only() -> None:
    student = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    assert first_dense_input(student, torch.zeros(1, 1, 8, 8)) == ("", None)
