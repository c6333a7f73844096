"""Distillation losses: their formulas, and which of them separate by row."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.distill.answers import Answers
from fedlite.distill.loss import build_loss
from fedlite.distill.losses.relational import relational_loss
from fedlite.distill.losses.soft import soft_loss
from fedlite.distill.options import LossOptions


def logits(seed: int, n: int = 6, classes: int = 4, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


def batch(seed: int, n: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    labels = torch.randint(4, (n,), generator=torch.Generator().manual_seed(seed))
    return logits(seed, n), labels, logits(seed + 1, n)


def built(name, alpha=0.5, temperature=2.0):
    """The loss as options name it, as a function of logits."""
    loss = build_loss(LossOptions(name, alpha, temperature))
    assert not [*loss.student_taps, *loss.teacher_taps]
    return lambda student, labels, teacher: loss(Answers(student), labels, Answers(teacher))


def test_soft_loss_by_hand():
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[math.log(9), 0.0]])
    # At T = 2 the student softens to (1, sqrt 3) / (1 + sqrt 3), the teacher to (3, 1) / 4.
    root = math.sqrt(3)
    divergence = 0.75 * math.log(0.75 * (1 + root)) + 0.25 * math.log(0.25 * (1 + root) / root)
    expected = 0.3 * math.log(4) + 0.7 * 4 * divergence
    found = soft_loss(student, torch.tensor([0]), teacher, alpha=0.3, temperature=2.0)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_soft_loss_mean_is_torch_batchmean():
    student, labels, teacher = batch(0)
    found = built("soft", alpha=0.25, temperature=3.0)(student, labels, teacher)
    expected = 0.25 * F.cross_entropy(student, labels) + 0.75 * 9 * F.kl_div(
        F.log_softmax(student / 3, 1), F.softmax(teacher / 3, 1), reduction="batchmean"
    )
    assert found.shape == (6,)
    torch.testing.assert_close(found.mean(), expected)


def test_hard_loss_uses_the_class_of_the_teacher():
    student, labels, teacher = batch(0)
    found = built("hard", alpha=0.25)(student, labels, teacher)
    expected = 0.25 * F.cross_entropy(student, labels, reduction="none")
    expected += 0.75 * F.cross_entropy(student, teacher.argmax(1), reduction="none")
    torch.testing.assert_close(found, expected)


def test_temperature_squared_keeps_the_gradient_of_a_hot_loss():
    """For large T the gradient tends to the difference of centred logits over C (Hinton 2015)."""
    student, labels, teacher = batch(0)
    student.requires_grad_()
    for temperature in (100.0, 1000.0):
        loss = soft_loss(student, labels, teacher, alpha=0.0, temperature=temperature).sum()
        (gradient,) = torch.autograd.grad(loss, student)
        difference = (student - teacher).detach()
        expected = (difference - difference.mean(1, keepdim=True)) / 4
        torch.testing.assert_close(gradient, expected, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("loss", ["soft", "hard", "decoupled"])
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 8),
    alpha=st.floats(0, 1),
    temperature=st.floats(0.5, 10),
)
@settings(max_examples=25)
def test_changing_one_row_leaves_the_other_rows_values_and_gradients(
    loss, seed, n, alpha, temperature
):
    function = built(loss, alpha, temperature)
    student, labels, teacher = batch(seed, n)
    values, gradient = values_and_gradient(function, student, labels, teacher)
    student[0], teacher[0], labels[0] = 50 * logits(7, 1)[0], logits(8, 1)[0], (labels[0] + 1) % 4
    changed_values, changed_gradient = values_and_gradient(function, student, labels, teacher)
    torch.testing.assert_close(values[1:], changed_values[1:], rtol=0, atol=0)
    torch.testing.assert_close(gradient[1:], changed_gradient[1:], rtol=0, atol=0)
    assert not torch.equal(values[0], changed_values[0])


def values_and_gradient(function, student, labels, teacher):
    student = student.clone().requires_grad_()
    values = function(student, labels, teacher)
    (gradient,) = torch.autograd.grad(values.sum(), student)
    return values.detach(), gradient


def test_the_relational_loss_does_not_separate_by_row():
    function = built("relational")
    student, labels, teacher = batch(0)
    values, gradient = values_and_gradient(function, student, labels, teacher)
    student[0] = 50 * logits(7, 1)[0]
    changed_values, changed_gradient = values_and_gradient(function, student, labels, teacher)
    assert (values[1:] - changed_values[1:]).abs().min() > 1e-3
    assert (gradient[1:] - changed_gradient[1:]).abs().max() > 1e-3


def test_relational_loss_against_its_definition():
    student, labels, teacher = batch(0)

    def normalised(x):
        distances = F.pdist(x)
        return distances / distances.mean()

    pairs = F.smooth_l1_loss(normalised(student), normalised(teacher), reduction="sum")
    soft = soft_loss(student, labels, teacher, alpha=0.2, temperature=2.0)
    found = relational_loss(student, labels, teacher, alpha=0.2, temperature=2.0)
    torch.testing.assert_close(found.mean(), soft.mean() + 0.8 * 25 * 2 * pairs / 36)


def test_relational_loss_vanishes_for_a_scaled_teacher():
    _, labels, teacher = batch(0)
    soft = soft_loss(3 * teacher, labels, teacher, alpha=0.5, temperature=2.0)
    found = relational_loss(3 * teacher, labels, teacher, alpha=0.5, temperature=2.0)
    torch.testing.assert_close(found, soft)


@pytest.mark.parametrize("loss", ["soft", "hard", "decoupled", "relational"])
@pytest.mark.parametrize("n", [0, 1, 2])
def test_small_and_empty_batches_have_finite_losses_and_gradients(loss, n):
    function = built(loss)
    student, labels, teacher = batch(0, 2)
    student[1:] = student[:1]  # equal rows: distance 0
    values, gradient = values_and_gradient(function, student[:n], labels[:n], teacher[:n])
    assert values.shape == (n,)
    assert values.isfinite().all()
    assert gradient.isfinite().all()
