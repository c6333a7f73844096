"""Classes of students learn from each other on public data, and never to their harm there."""

import pytest
import torch
from torch import nn

from fedlite.base.tensors import state_sha256
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData
from fedlite.distill.join import Ensemble, JoinedClass, join_students
from fedlite.distill.options import JoinOptions

CONFIG = JoinOptions(steps=60, batch_size=16, learning_rate=0.03)
CLASSES = 3


def examples(count: int, seed: int) -> PublicData:
    """Inputs whose class is the largest of them."""
    inputs = torch.randn(count, CLASSES, generator=torch.Generator().manual_seed(seed))
    return PublicData(inputs, inputs.argmax(dim=1))


def right() -> nn.Module:
    """Knows the classes, and is sure."""
    model = nn.Linear(CLASSES, CLASSES, bias=False)
    with torch.no_grad():
        model.weight.copy_(10 * torch.eye(CLASSES))
    return model


def ignorant() -> nn.Module:
    model = nn.Sequential(nn.Linear(CLASSES, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    return model


def joined(
    students: dict[str, nn.Module], validation: PublicData, seed: int = 0
) -> dict[str, JoinedClass]:
    public = examples(64, seed=1)
    return join_students(students, public, validation, CONFIG, AugmentOptions(), "accuracy", seed)


def test_an_ensemble_answers_the_mean_of_its_members_logits() -> None:
    members, inputs = [right(), ignorant()], torch.randn(5, CLASSES)
    mean = (members[0](inputs) + members[1](inputs)) / 2
    assert torch.allclose(Ensemble(members)(inputs), mean)


def test_a_student_of_any_shape_learns_from_the_others() -> None:
    students = {"small": ignorant(), "large": right()}
    before = {name: state_sha256(one.state_dict()) for name, one in students.items()}
    found = joined(students, examples(100, seed=2))
    small = found["small"]
    assert small.taken
    assert small.validation is not None
    assert small.validation.gained > 20
    assert {name: state_sha256(one.state_dict()) for name, one in students.items()} == before


def test_what_is_worse_on_public_validation_is_not_taken() -> None:
    harmful = right()
    with torch.no_grad():
        harmful.weight.copy_(-40 * torch.eye(CLASSES))  # surer of the wrong answer
    found = joined({"good": right(), "harmful": harmful}, examples(100, seed=2))
    assert not found["good"].taken
    assert found["good"].validation is not None
    assert found["good"].validation.gained <= 0  # as often right, and less sure


def test_without_validation_examples_every_joined_student_is_taken() -> None:
    found = joined({"a": right(), "b": ignorant()}, examples(0, seed=2))
    assert all(one.taken and one.validation is None for one in found.values())


@pytest.mark.parametrize("other", [0, 1])
def test_a_join_follows_from_its_seed(other: int) -> None:
    students = {"a": right(), "b": ignorant()}
    one, two = (
        state_sha256(joined(students, examples(0, seed=2), seed)["b"].student.state_dict())
        for seed in (0, other)
    )
    assert (one == two) == (other == 0)
