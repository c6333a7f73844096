"""The teacher: early stopping and determinism."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from fedlite.data.options import AugmentOptions
from fedlite.data.types import ClientData, PublicData
from fedlite.distill.evaluate import evaluate_model, predict_logits
from fedlite.distill.teacher import train_teacher
from fedlite.models.build import build_model

AUGMENT = AugmentOptions(shift=1)


@pytest.fixture(scope="module")
def trained(digits, task, teacher_config):
    model = build_model(teacher_config, task, seed=0)
    seen = []
    train_teacher(
        model, *digits, teacher_config, AUGMENT, seed=0, on_epoch=lambda *x: seen.append(x)
    )
    return model, seen


def test_the_teacher_learns_and_is_frozen(trained, digits):
    model, seen = trained
    assert evaluate_model(model, digits[1], 10).accuracy > 0.85
    assert [epoch for epoch, _ in seen] == list(range(1, len(seen) + 1))
    assert evaluate_model(model, digits[1], 10).accuracy in [found.accuracy for _, found in seen]
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(tensor.is_contiguous() for tensor in model.state_dict().values())


def test_the_same_seed_gives_the_same_teacher_whatever_the_global_generator(
    trained, digits, task, teacher_config
):
    torch.manual_seed(99)
    model = build_model(teacher_config, task, seed=0)
    train_teacher(model, *digits, teacher_config, AUGMENT, seed=0)
    for key, tensor in trained[0].state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key


def test_early_stopping_keeps_the_best_weights(digits, task, teacher_config):
    """Validation labels that contradict training: every epoch after the first few is worse."""
    public, validation = digits
    contrary = PublicData(validation.inputs, (validation.labels + 1) % 10)
    config = dataclasses.replace(teacher_config, epochs=40, patience=3)
    model = build_model(config, task, seed=0)
    losses = []

    def record(epoch, found):
        logits = predict_logits(model, contrary.inputs)
        losses.append(float(F.cross_entropy(logits, contrary.labels)))

    train_teacher(model, public, contrary, config, AUGMENT, seed=0, on_epoch=record)
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + config.patience < config.epochs
    assert evaluate_model(model, contrary, 10).loss == pytest.approx(losses[best], rel=1e-6)


@pytest.mark.parametrize("part", [0, 1])
def test_private_data_is_refused(digits, task, teacher_config, part):
    data = list(digits)
    data[part] = ClientData(0, digits[part].inputs, digits[part].labels)
    model = build_model(teacher_config, task, seed=0)
    with pytest.raises(TypeError, match="only PublicData"):
        train_teacher(model, *data, teacher_config, AUGMENT, seed=0)
