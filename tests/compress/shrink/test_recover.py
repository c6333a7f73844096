"""Recovery of a pruned student on public data."""

import pytest
import torch

from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.recover import recover
from fedlite.compress.shrink.sparsify import count_nonzero, weight_masks
from fedlite.data.options import AugmentOptions
from fedlite.data.types import ClientData
from fedlite.distill.evaluate import evaluate_model, predict_logits
from tests.compress.conftest import SHAPE, Digits
from tests.compress.shrink.pruning import prune_channels


def test_recovery_restores_accuracy_and_keeps_masked_weights_at_zero(student, digits: Digits):
    pruned = prune_channels(student, SHAPE, 0.5, 4)
    masks = weight_masks(pruned, 0.5)
    before = evaluate_model(pruned, digits.test, 10).accuracy
    steps: list[int] = []
    config = CompressOptions(recovery_steps=150, recovery_learning_rate=3e-3)
    recover(pruned, student, digits.public, config, AugmentOptions(), masks, 0, steps.append)
    after = evaluate_model(pruned, digits.test, 10).accuracy
    full = evaluate_model(student, digits.test, 10).accuracy
    assert after > before
    assert after > full - 0.05
    assert steps == list(range(1, 151))
    assert count_nonzero(pruned) <= sum(int(mask.sum()) for mask in masks.values())
    for name, mask in masks.items():
        assert not pruned.get_parameter(name)[~mask].any()


def test_recovery_learns_from_the_reference_and_not_from_public_labels(student, digits: Digits):
    config = CompressOptions(recovery_steps=5)
    shuffled = type(digits.public)(digits.public.inputs, digits.public.labels.flip(0))
    results = []
    for public in (digits.public, shuffled):
        pruned = prune_channels(student, SHAPE, 0.5, 4)
        recover(pruned, student, public, config, AugmentOptions(), {}, seed=0)
        results.append(predict_logits(pruned, digits.test.inputs))
    assert torch.equal(*results)


def test_recovery_refuses_private_data(student, digits: Digits):
    private = ClientData(0, digits.public.inputs, digits.public.labels)
    with pytest.raises(TypeError, match="ClientData"):
        recover(student, student, private, CompressOptions(), AugmentOptions(), {}, seed=0)
