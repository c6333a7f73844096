"""A teacher that knows its inputs in another scale gets them so, under its own names."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.data.types import Normalise, Task
from fedlite.models.build import build_model
from fedlite.models.options import ScaledModelOptions, check_scaling
from fedlite.models.scaling import IMAGENET_MEAN, IMAGENET_STD

MLP = "fedlite.models.mlp.MLP"
PICTURES = Task(
    name="pictures",
    input_shape=(3, 2, 2),
    class_names=("a", "b"),
    preprocessing=Normalise(255.0, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),
    metric="accuracy",
    example="one picture",
)
RAW = torch.randint(0, 256, (5, 3, 2, 2), generator=torch.Generator().manual_seed(0))


def teacher(scale: str = "dataset", mean=None, std=None) -> ScaledModelOptions:
    return ScaledModelOptions("t", MLP, {"hidden": [4]}, scale, mean, std)


def by_channel(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1)


@pytest.mark.parametrize(
    ("options", "known"),
    [
        (teacher("unit"), RAW / 255),
        (teacher("signed"), RAW / 127.5 - 1),
        (teacher("raw"), RAW.float()),
        (teacher("imagenet"), (RAW / 255 - by_channel(IMAGENET_MEAN)) / by_channel(IMAGENET_STD)),
        (teacher("custom", [0.1], [0.5]), (RAW / 255 - 0.1) / 0.5),
        (
            teacher("custom", [0.1, 0.2, 0.3], [0.5]),
            (RAW / 255 - by_channel((0.1, 0.2, 0.3))) / 0.5,
        ),
    ],
)
def test_the_network_sees_the_scale_that_it_knows(options, known):
    plain, scaled = (build_model(one, PICTURES, seed=3).eval() for one in (teacher(), options))
    given = PICTURES.prepare(RAW)
    assert torch.allclose(scaled(given), plain(known), rtol=1e-4, atol=1e-4)
    own = plain.state_dict()
    state = scaled.state_dict()
    assert all(torch.equal(state[name], value) for name, value in own.items())
    assert set(state) - set(own) == {"input_factor", "input_shift"}
    assert type(scaled).__name__ == "MLP"


def test_the_scale_of_the_data_set_changes_nothing():
    model = build_model(teacher(), PICTURES, seed=3)
    assert not [name for name in model.state_dict() if name.startswith("input_")]


@given(st.floats(-3, 3), st.floats(0.01, 10), st.sampled_from([(6,), (2, 5), (1, 4, 4)]))
def test_any_shape_of_inputs_is_rescaled(mean, std, shape):
    data = Normalise(2.0, (0.5,) * shape[0], (0.25,) * shape[0])
    task = Task("t", shape, ("a", "b"), data, "accuracy", "one")
    plain, scaled = (
        build_model(one, task, seed=0).eval()
        for one in (teacher(), teacher("custom", [mean], [std]))
    )
    raw = torch.randn(3, *shape)
    torch.testing.assert_close(
        scaled(task.prepare(raw)), plain((raw / 2.0 - mean) / std), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            teacher("unit", mean=[0.5]),
            r"teacher.mean=\[0.5\]: is for teacher.normalise=custom alone",
        ),
        (teacher(std=[0.5]), r"teacher.std=\[0.5\]: is for teacher.normalise=custom alone"),
        (teacher("custom", std=[0.5]), "needs teacher.mean, one number or one for each channel"),
        (teacher("custom", mean=[0.5], std=[]), "needs teacher.std"),
    ],
)
def test_means_without_their_scale_are_refused(options, says):
    with pytest.raises(UsageError, match=says):
        check_scaling(options)


def test_values_for_other_channels_are_refused():
    grey = Task("t", (1, 2, 2), ("a", "b"), Normalise(1.0, (0.0,), (1.0,)), "accuracy", "one")
    with pytest.raises(UsageError, match=r"its mean has 3 values, .* have 1 channels"):
        build_model(teacher("imagenet"), grey, seed=0)


def test_it_is_copied_and_pickled_as_any_network():
    model = build_model(teacher("unit"), PICTURES, seed=3).eval()
    inputs = PICTURES.prepare(RAW)
    for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(made(inputs), model(inputs))
        assert set(made.state_dict()) == set(model.state_dict())
        made.input_factor.add_(1.0)
        assert not torch.equal(made(inputs), model(inputs))
