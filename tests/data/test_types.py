"""A task and its preprocessing: what a model sees of raw inputs, and inputs made up."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlite.data.types import Normalise, Task
from fedlite.serve.preprocessing import Preprocessing

TWO = Normalise(scale=16.0, mean=(0.3, -1.0), std=(0.5, 2.0))
TASK = Task("t", (2, 5), ("a", "b", "c"), TWO, "accuracy", "one")


def test_inputs_are_prepared_by_leading_dimension() -> None:
    raw = torch.arange(10, dtype=torch.uint8).reshape(1, 2, 5)
    seen = TASK.prepare(raw)
    assert (seen.dtype, seen.shape) == (torch.float32, raw.shape)
    assert seen[0, 0].tolist() == pytest.approx([(value / 16 - 0.3) / 0.5 for value in range(5)])
    assert seen[0, 1].tolist() == pytest.approx([(value / 16 + 1) / 2 for value in range(5, 10)])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_however_they_were_stored_a_network_may_take_a_view(channels: int, dtype: type) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (6, 4, 4, channels)).astype(dtype)
    raw = torch.from_numpy(np.moveaxis(stored, -1, 1))  # channels last, as many files have them
    before, convolution = raw.clone(), nn.Conv2d(channels, 2, 3, padding=1)
    seen = Normalise(255.0, (0.5,) * channels, (0.25,) * channels)(raw)
    assert torch.equal(raw, before)
    for inputs in (seen, seen[torch.tensor([4, 1, 2])], seen[:1]):
        assert inputs.view(len(inputs), -1).shape[1] == channels * 16
        assert convolution(inputs).view(len(inputs), -1).shape[1] == 2 * 16


@given(st.lists(st.integers(0, 255), min_size=10, max_size=10))
def test_what_was_prepared_can_be_undone(values: list[int]) -> None:
    raw = torch.tensor(values).reshape(1, 2, 5)
    undone = TWO.undo(TASK.prepare(raw))
    assert undone.dtype == torch.float64
    torch.testing.assert_close(undone, raw.double(), rtol=1e-5, atol=1e-4)


def test_what_ships_says_the_same_without_torch() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (3, 2, 5), dtype=np.uint8)
    said = TWO.describe()
    alone = Preprocessing(TASK.input_shape, said["scale"], tuple(said["mean"]), tuple(said["std"]))
    seen = TASK.prepare(torch.from_numpy(raw)).numpy()
    np.testing.assert_allclose(alone.normalise(raw), seen, rtol=1e-6)
    assert TWO.words == "raw values divided by 16 before mean and std"


def test_made_up_inputs_have_the_shape_of_the_task() -> None:
    assert torch.equal(TASK.blank(3), torch.zeros(3, 2, 5))
    first, same = (TASK.random(4, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == (4, 2, 5)
    assert torch.equal(first, same)
    assert len(torch.unique(first)) == 40
    assert TASK.num_classes == 3
