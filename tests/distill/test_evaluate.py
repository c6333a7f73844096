"""Evaluation: measures by hand, and a model that is left as it was found."""

import math

import pytest
import torch
from torch import nn

from fedlite.distill.evaluate import evaluate_logits, evaluate_model, predict_logits
from fedlite.models.build import build_model


def test_measures_by_hand():
    """Classes 0 and 1 are seen; class 2 is predicted once and class 3 never appears at all."""
    predicted, labels = [0, 0, 1, 2], torch.tensor([0, 1, 1, 1])
    logits = math.log(2) * nn.functional.one_hot(torch.tensor(predicted), 4).float()
    found = evaluate_logits(logits, labels, 4)
    assert found.accuracy == 0.5
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 0 + 0) / 4)
    assert found.loss == pytest.approx((2 * math.log(5 / 2) + 2 * math.log(5)) / 4)
    assert found.confusion == [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert evaluate_logits(logits.numpy(), labels.numpy(), 4) == found


@pytest.mark.parametrize("training", [True, False])
def test_prediction_is_in_eval_mode_in_batches_and_restores_the_mode(
    digits, task, teacher_config, training
):
    model = build_model(teacher_config, task, seed=0).train(training)
    whole = predict_logits(model, digits[1].inputs)
    parts = predict_logits(model, digits[1].inputs, batch_size=7)
    assert model.training is training
    assert not whole.requires_grad
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(whole, model.eval()(digits[1].inputs).detach())


def test_evaluate_model_is_evaluate_logits(digits, task, student_config):
    model = build_model(student_config, task, seed=0)
    logits = predict_logits(model, digits[1].inputs)
    assert evaluate_model(model, digits[1], 10) == evaluate_logits(logits, digits[1].labels, 10)
