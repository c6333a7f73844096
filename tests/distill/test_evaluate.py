"""Evaluation: measures by hand, and a model that is left as it was found."""

import math

import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from torch import nn

from fedlite.distill.evaluate import evaluate_logits, evaluate_model, evaluator, predict_logits
from fedlite.models.build import build_model
from fedlite.runs.compose import compose_config


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


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_measures_are_those_of_scikit_learn(classes):
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(60, classes, generator=generator)
    labels, known = torch.randint(classes, (60,), generator=generator), range(classes)
    found, predicted = evaluate_logits(logits, labels, classes), logits.argmax(dim=1)
    assert found.accuracy == accuracy_score(labels, predicted)
    assert found.confusion == confusion_matrix(labels, predicted, labels=known).tolist()
    expected = f1_score(labels, predicted, labels=known, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(expected, rel=1e-12)


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


@pytest.mark.parametrize("name", ["cnn", "mlp", "scattering"])
def test_an_evaluator_measures_the_weights_of_the_moment(name, digits, task):
    options = compose_config([f"student={name}"]).student
    model, public = build_model(options, task, seed=0), digits[1]
    measure = evaluator(model, public, 10)
    for seed in (1, 2):
        other = build_model(options, task, seed=seed)
        model.load_state_dict(other.state_dict())
        found, expected = measure(), evaluate_model(other, public, 10)
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert found.confusion == expected.confusion
