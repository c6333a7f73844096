"""The optimizer of local steps is torch's, bit for bit."""

import copy
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlite.privacy.steps import Sgd

SHAPES = ((3, 4), (5,), (2, 1, 3))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@given(
    seed=st.integers(0, 2**31), left_out=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2)))
)
def test_steps_are_those_of_torch(
    momentum: float, seed: int, left_out: set[tuple[int, int]]
) -> None:
    """``left_out`` names parameters without a gradient, by step and place."""
    draws = torch.Generator().manual_seed(seed)
    ours = [nn.Parameter(torch.randn(shape, generator=draws)) for shape in SHAPES]
    theirs = copy.deepcopy(ours)
    torchs = torch.optim.SGD(theirs, lr=0.3, momentum=momentum)
    sgd = Sgd(ours, 0.3, momentum)
    for number in range(4):
        gradients = [
            None if (number, place) in left_out else torch.randn(shape, generator=draws)
            for place, shape in enumerate(SHAPES)
        ]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        torchs.step()
        sgd.step(gradients)
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_no_compiler_is_loaded_for_it() -> None:
    script = """
import sys, torch
from fedlite.privacy.steps import Sgd
parameter = torch.nn.Parameter(torch.ones(2))
Sgd([parameter], 0.1, 0.9).step([torch.ones(2)])
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
