"""Masks of single weights: exact counts, and which weights they leave out."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlite.compress.shrink.sensitivity import gradient_sizes
from fedlite.compress.shrink.sparsify import (
    apply_masks,
    count_nonzero,
    prunable_weights,
    weight_masks,
)
from fedlite.data.types import ClientData, PublicData
from fedlite.models.build import build_model
from tests.compress.conftest import MLP, Digits
from tests.tasks import shaped

PUBLIC = PublicData(
    torch.randn(200, 20, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 5
)


def mlp() -> nn.Module:
    return build_model(MLP, shaped((20,), 5), seed=0)


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors.values()])


@given(
    sparsity=st.floats(min_value=0, max_value=0.99),
    criterion=st.sampled_from(["global", "local", "gradient"]),
)
@settings(max_examples=30)
def test_masks_leave_exactly_the_strongest_weights(sparsity, criterion):
    model = mlp()
    weights = prunable_weights(model)
    generator = torch.Generator().manual_seed(0)
    gradients = {name: torch.rand(w.shape, generator=generator) for name, w in weights.items()}
    masks = weight_masks(model, sparsity, criterion, gradients)
    scores = {name: weight.detach().abs() for name, weight in weights.items()}
    if criterion == "gradient":
        scores = {name: score * gradients[name] for name, score in scores.items()}
    if criterion == "local":
        parts = [(scores[name].flatten(), masks[name].flatten()) for name in weights]
    else:
        parts = [(flat(scores), flat(masks))]
    for score, mask in parts:
        assert int((~mask).sum()) == int(sparsity * len(mask))
        if not mask.all():
            assert score[mask].min() >= score[~mask].max()
    apply_masks(model, masks)
    assert count_nonzero(model) == sum(int(mask.sum()) for mask in masks.values())


def test_global_and_local_differ_where_layers_differ_in_scale():
    model = mlp()
    with torch.no_grad():
        model.head.weight *= 100
    assert weight_masks(model, 0.5)["head.weight"].float().mean() > 0.95
    local = weight_masks(model, 0.5, "local")["head.weight"]
    assert int(local.sum()) == local.numel() // 2


def test_the_gradient_spares_small_weights_that_matter():
    """A tiny weight on a huge input: magnitude drops it, the gradient keeps it."""
    model = mlp()
    with torch.no_grad():
        model.hidden[0].weight[:, 0] *= 0.01
    inputs = PUBLIC.inputs.clone()
    inputs[:, 0] *= 10_000
    gradients = gradient_sizes(model, model, PublicData(inputs, PUBLIC.labels), seed=0)
    name = "hidden.0.weight"
    assert weight_masks(model, 0.5)[name][:, 0].float().mean() < 0.1
    assert weight_masks(model, 0.5, "gradient", gradients)[name][:, 0].float().mean() > 0.9


def test_gradients_do_not_vanish_where_the_model_is_its_own_reference(student, digits: Digits):
    student = copy.deepcopy(student)
    student.zero_grad(set_to_none=True)
    before = copy.deepcopy(student.state_dict())
    found = gradient_sizes(student, student, digits.public, seed=0)
    assert set(found) == {name for name, _ in student.named_parameters()}
    for name, value in student.named_parameters():
        assert found[name].shape == value.shape
        assert found[name].min() >= 0
        assert found[name].max() > 0
        assert value.grad is None
    assert all(torch.equal(student.state_dict()[name], value) for name, value in before.items())
    again = gradient_sizes(student, student, digits.public, seed=0)
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_gradients_refuse_private_data(student, digits: Digits):
    private = ClientData(0, digits.public.inputs, digits.public.labels)
    with pytest.raises(TypeError, match="ClientData"):
        gradient_sizes(student, student, private, seed=0)
