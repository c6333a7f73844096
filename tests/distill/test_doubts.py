"""What public data says against a teacher: another scale, or nothing learnt at all."""

import dataclasses

import pytest
import torch

from fedlite.data.options import AugmentOptions
from fedlite.data.types import ClientData, Normalise, PublicData
from fedlite.distill.doubts import doubt_of
from fedlite.distill.teacher import train_teacher
from fedlite.models.build import build_model

# As a data set that is dark would be standardised: far from 0 to 1, on which the teacher learnt.
STANDARDISED = Normalise(scale=16.0, mean=(0.3,), std=(0.08,))


@pytest.fixture(scope="module")
def trained(digits, task, teacher_config):
    """A teacher that knows pixels between 0 and 1."""
    model = build_model(teacher_config, task, seed=0)
    train_teacher(model, *digits, teacher_config, AugmentOptions(), seed=0)
    return model


@pytest.fixture(scope="module")
def given(teacher_config):
    """Of a teacher from elsewhere."""
    return dataclasses.replace(teacher_config, checkpoint="teacher.pt")


@pytest.fixture(scope="module")
def dark(task):
    return dataclasses.replace(task, preprocessing=STANDARDISED)


@pytest.fixture(scope="module")
def shown(digits):
    """The same digits, in the scale of the data set."""
    validation = digits[1]
    return PublicData((validation.inputs - 0.3) / 0.08, validation.labels)


def test_a_teacher_of_another_scale_is_told_with_the_option(
    trained, dark, shown, given, teacher_config
):
    line = doubt_of(trained, given, dark, shown)
    assert "where inputs are scaled as the data set is standardised" in line
    assert "with teacher.normalise=unit: " in line
    assert "\n" not in line
    assert doubt_of(trained, teacher_config, dark, shown) is None  # this run has trained it


def test_with_that_option_there_is_no_doubt(trained, dark, shown, given):
    options = dataclasses.replace(given, normalise="unit")
    model = build_model(options, dark, seed=1)
    model.load_state_dict({**model.state_dict(), **trained.state_dict()})
    assert doubt_of(model.eval(), options, dark, shown) is None
    wrong = dataclasses.replace(given, normalise="raw")
    other = build_model(wrong, dark, seed=1)
    other.load_state_dict({**other.state_dict(), **trained.state_dict()})
    line = doubt_of(other.eval(), wrong, dark, shown)
    assert "where inputs are scaled as they are stored" in line
    assert "with teacher.normalise=unit: " in line


@pytest.mark.parametrize(("std", "said"), [(0.6, True), (0.8, False)])  # 2.4 and 0.4 points less
def test_a_scale_that_costs_little_is_told_where_it_is_no_chance(
    std, said, trained, task, all_digits, given
):
    near = dataclasses.replace(task, preprocessing=Normalise(16.0, (0.1,), (std,)))
    inputs, labels = all_digits.inputs[400:], all_digits.labels[400:]
    line = doubt_of(trained, given, near, PublicData((inputs - 0.1) / std, labels))
    assert ("with teacher.normalise=unit: it seems" in (line or "")) is said
    few = PublicData((inputs[:120] - 0.1) / std, labels[:120])
    assert doubt_of(trained, given, near, few) is None


def test_stored_numbers_that_were_scaled_by_their_largest_are_found(trained, task, digits, given):
    floats = dataclasses.replace(task, preprocessing=Normalise(1.0, (5.0,), (1.3,)))
    shown = PublicData((digits[1].inputs * 16 - 5.0) / 1.3, digits[1].labels)
    line = doubt_of(trained, given, floats, shown)
    assert "with teacher.normalise=custom teacher.mean=[0.0] teacher.std=[16.0]: " in line


def test_a_teacher_that_fits_is_not_doubted(trained, task, digits, given):
    assert doubt_of(trained, given, task, digits[1]) is None


def test_a_random_teacher_is_told_to_be_one(task, digits, teacher_config):
    model = build_model(teacher_config, task, seed=0).eval()
    line = doubt_of(model, teacher_config, task, digits[1])
    assert "of 120 public examples right, and always answering" in line
    assert "nothing to teach" in line


def test_private_data_is_refused(trained, task, digits, teacher_config):
    private = ClientData(0, digits[1].inputs, digits[1].labels)
    with pytest.raises(TypeError, match="only PublicData"):
        doubt_of(trained, teacher_config, task, private)


def test_nothing_is_moved(trained, dark, shown, given):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    state = torch.get_rng_state()
    doubt_of(trained, given, dark, shown)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
