"""Pruning channels and weights, recovering, and the file of a pruned model."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlite.compress.prune import (
    apply_masks,
    count_nonzero,
    prunable_weights,
    prune_channels,
    recover,
    weight_masks,
)
from fedlite.compress.pruned_file import load_pruned, save_pruned
from fedlite.config import AugmentConfig, CompressConfig, ModelConfig
from fedlite.data.types import ClientData
from fedlite.distill.evaluate import evaluate_model, predict_logits
from fedlite.errors import FedliteError, UsageError
from fedlite.models.build import build_model, count_parameters

from .conftest import CNN, MLP, MOBILENET, SHAPE, Digits

NORMED = ModelConfig("cnn", CNN.module, {"norm": "group"})
ALL = [(CNN, SHAPE), (NORMED, (9, 64)), (CNN, (9, 64)), (MOBILENET, SHAPE), (MLP, (20,))]


@settings(max_examples=40, deadline=None)
@given(
    which=st.sampled_from(ALL),
    ratio=st.floats(min_value=0, max_value=0.8),
    round_to=st.sampled_from([1, 2, 3, 4, 8]),
)
def test_any_ratio_gives_a_working_smaller_network(which, ratio, round_to):
    config, shape = which
    model = build_model(config, shape, 5, seed=0)
    try:
        pruned = prune_channels(model, shape, ratio, round_to)
    except FedliteError:
        assert ratio < 0.5  # rounding kept every channel: never of a large ratio
        return
    assert pruned(torch.zeros(3, *shape)).shape == (3, 5)
    assert count_parameters(pruned) <= count_parameters(model)
    assert all(p.requires_grad for p in pruned.parameters())


@pytest.mark.parametrize("config", [CNN, NORMED, MOBILENET, MLP])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_every_width_shrinks_by_the_ratio(config, ratio):
    model = build_model(config, SHAPE, 10, seed=0)
    pruned = dict(prune_channels(model, SHAPE, ratio, round_to=4).named_modules())
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            asked = module.out_channels * (1 - ratio)
            assert abs(pruned[name].out_channels - asked) <= 2
            assert pruned[name].out_channels % 4 == 0


def test_ratio_zero_is_an_equal_copy(student):
    copied = prune_channels(student, SHAPE, 0.0, 4)
    assert copied is not student
    for name, value in student.state_dict().items():
        assert torch.equal(copied.state_dict()[name], value)


def test_pruning_leaves_the_model_it_was_given_alone(student):
    before = copy.deepcopy(student.state_dict())
    prune_channels(student, SHAPE, 0.5, 4)
    assert all(torch.equal(student.state_dict()[name], value) for name, value in before.items())


def test_the_weakest_channels_go():
    model = build_model(MLP, (20,), 5, seed=0)
    with torch.no_grad():
        model.hidden[0].weight[:32] *= 1e-3
        model.hidden[2].weight[:, :32] *= 1e-3
    pruned = prune_channels(model, (20,), 0.5, 4)
    assert torch.equal(pruned.hidden[0].weight, model.hidden[0].weight[32:])


@pytest.mark.parametrize(
    ("config", "ratio"),
    [(ModelConfig("linear", MLP.module, {"hidden": ()}), 0.5), (CNN, 0.01)],
)
def test_nothing_to_prune_is_an_error_of_one_line(config, ratio):
    model = build_model(config, SHAPE, 10, seed=0)
    with pytest.raises(FedliteError, match=r"removes no channel") as caught:
        prune_channels(model, SHAPE, ratio, round_to=8)
    assert "\n" not in str(caught.value)


@given(sparsity=st.floats(min_value=0, max_value=0.99))
@settings(max_examples=20, deadline=None)
def test_masks_leave_exactly_the_largest_weights(sparsity):
    model = build_model(MLP, (20,), 5, seed=0)
    before = torch.cat([w.detach().flatten().abs() for w in prunable_weights(model).values()])
    apply_masks(model, weight_masks(model, sparsity))
    zeroed = int(sparsity * len(before))
    assert count_nonzero(model) == len(before) - zeroed
    after = torch.cat([w.detach().flatten().abs() for w in prunable_weights(model).values()])
    if zeroed:
        assert after[after > 0].min() >= before[after == 0].max()


def test_recovery_restores_accuracy_and_keeps_masked_weights_at_zero(student, digits: Digits):
    pruned = prune_channels(student, SHAPE, 0.5, 4)
    masks = weight_masks(pruned, 0.5)
    apply_masks(pruned, masks)
    nonzero = count_nonzero(pruned)
    before = evaluate_model(pruned, digits.test, 10).accuracy
    steps: list[int] = []
    config = CompressConfig(recovery_steps=150, recovery_learning_rate=3e-3)
    recover(pruned, student, digits.public, config, AugmentConfig(), masks, 0, steps.append)
    after = evaluate_model(pruned, digits.test, 10).accuracy
    full = evaluate_model(student, digits.test, 10).accuracy
    assert after > before
    assert after > full - 0.05
    assert steps == list(range(1, 151))
    assert count_nonzero(pruned) <= nonzero
    for name, mask in masks.items():
        assert not pruned.get_parameter(name)[~mask].any()


def test_recovery_learns_from_the_reference_and_not_from_public_labels(student, digits: Digits):
    config = CompressConfig(recovery_steps=5)
    shuffled = type(digits.public)(digits.public.inputs, digits.public.labels.flip(0))
    results = []
    for public in (digits.public, shuffled):
        pruned = prune_channels(student, SHAPE, 0.5, 4)
        recover(pruned, student, public, config, AugmentConfig(), {}, seed=0)
        results.append(predict_logits(pruned, digits.test.inputs))
    assert torch.equal(*results)


def test_recovery_refuses_private_data(student, digits: Digits):
    private = ClientData(0, digits.public.inputs, digits.public.labels)
    with pytest.raises(TypeError, match="ClientData"):
        recover(student, student, private, CompressConfig(), AugmentConfig(), {}, seed=0)


@pytest.mark.parametrize("config", [CNN, NORMED, MOBILENET, MLP])
def test_a_pruned_model_comes_back_from_its_file(config, tmp_path):
    pruned = prune_channels(build_model(config, SHAPE, 10, seed=3), SHAPE, 0.5, 4).eval()
    path = tmp_path / "pruned.pt"
    save_pruned(pruned, path)
    assert set(torch.load(path, weights_only=True)) == {"widths", "state_dict"}
    loaded = load_pruned(path, config, SHAPE, 10)
    inputs = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(inputs), pruned(inputs))
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_hold_no_fitting_pruned_model_are_refused(student, tmp_path):
    path = tmp_path / "pruned.pt"
    with pytest.raises(UsageError, match="no such file"):
        load_pruned(path, CNN, SHAPE, 10)
    save_pruned(student, path)
    with pytest.raises(UsageError, match="does not fit model mlp"):
        load_pruned(path, MLP, SHAPE, 10)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(FedliteError, match="damaged"):
        load_pruned(path, CNN, SHAPE, 10)
