"""Distillation on public data: it teaches, repeats exactly, and never takes private data."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlite.data.options import AugmentOptions
from fedlite.data.types import ClientData
from fedlite.data.types import TestData as HeldOutData
from fedlite.distill.evaluate import evaluate_model
from fedlite.distill.loss import build_loss
from fedlite.distill.options import DistillOptions, WarmStartOptions
from fedlite.distill.public import distil_on_public, shuffled_batches, teacher_answers
from fedlite.distill.teacher import train_teacher
from fedlite.distill.warm_start import warm_start, warm_start_steps
from fedlite.models.build import build_model


@pytest.fixture(scope="module")
def teacher(digits, task, teacher_config):
    model = build_model(teacher_config, task, seed=0)
    train_teacher(model, *digits, teacher_config, AugmentOptions(), seed=0)
    return model


@pytest.fixture
def student(task, student_config):
    return build_model(student_config, task, seed=0)


def distil(student, teacher, public, **changes):
    loss = build_loss(DistillOptions(alpha=0.5))
    settings = {
        "steps": 30,
        "batch_size": 32,
        "learning_rate": 5e-3,
        "weight_decay": 0.0,
        "loss": loss,
        "augment": AugmentOptions(shift=1, noise=0.1),
        "seed": 0,
    }
    teach = teacher_answers(teacher, loss)
    distil_on_public(student, teach, public, **{**settings, **changes})


@pytest.mark.parametrize("loss", ["soft", "hard", "relational"])
def test_the_warm_start_teaches_the_student(student, teacher, digits, loss):
    public, validation = digits
    settings = WarmStartOptions(epochs=20, batch_size=32, learning_rate=5e-3)
    steps = []
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    warm_start(
        student,
        teacher,
        public,
        DistillOptions(loss=loss, alpha=0.5, warm_start=settings),
        AugmentOptions(),
        seed=0,
        on_step=steps.append,
    )
    assert steps == list(range(1, warm_start_steps(settings, len(public)) + 1))
    assert evaluate_model(student, validation, 10).accuracy > 0.8
    assert all(tensor.is_contiguous() for tensor in student.state_dict().values())
    for key, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[key]), key


@pytest.mark.parametrize("kind", ["client", "test"])
def test_anything_but_public_data_is_refused(student, teacher, digits, kind):
    public = digits[0]
    data = (
        ClientData(0, public.inputs, public.labels)
        if kind == "client"
        else HeldOutData(public.inputs, public.labels)
    )
    before = {key: tensor.clone() for key, tensor in student.state_dict().items()}
    with pytest.raises(TypeError, match=type(data).__name__):
        distil(student, teacher, data)
    with pytest.raises(TypeError, match=type(data).__name__):
        warm_start(student, teacher, data, DistillOptions(), AugmentOptions(), seed=0)
    for key, tensor in student.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_the_seed_alone_decides_the_student(teacher, digits, task, student_config):
    def run(seed):
        torch.manual_seed(torch.seed())  # the global generator must not matter
        model = build_model(student_config, task, seed=0)
        state = torch.get_rng_state()
        distil(model, teacher, digits[0], seed=seed)
        assert torch.equal(state, torch.get_rng_state())
        return model(digits[1].inputs)

    first, same, other = run(3), run(3), run(4)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_after_step_keeps_pruned_weights_at_zero(student, teacher, digits):
    weight = student.hidden[0].weight
    mask = weight.abs() > weight.abs().median()

    def prune(model):
        with torch.no_grad():
            model.hidden[0].weight.mul_(mask)

    before = weight.detach().clone()
    distil(student, teacher, digits[0], after_step=prune)
    assert (weight[~mask] == 0).all()
    assert not torch.equal(weight[mask], before[mask])


def test_no_steps_change_nothing(student, teacher, digits):
    before = {key: tensor.clone() for key, tensor in student.state_dict().items()}
    distil(student, teacher, digits[0], steps=0)
    for key, tensor in student.state_dict().items():
        assert torch.equal(tensor, before[key]), key


@given(n=st.integers(1, 20), batch_size=st.integers(1, 30), seed=st.integers(0, 99))
def test_batches_are_full_and_visit_every_example_equally_often(n, batch_size, seed):
    batches = shuffled_batches(n, batch_size, torch.Generator().manual_seed(seed))
    size = min(n, batch_size)
    drawn = torch.cat([batch for batch, _ in zip(batches, range(n), strict=False)])
    assert len(drawn) == n * size
    assert torch.bincount(drawn, minlength=n).tolist() == [size] * n
