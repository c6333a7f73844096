"""Torch's own generators, seeded for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fedlite.base.compute import CPU


@contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Let what draws from torch's own generators draw from ``seed`` (63 bits). They go on
    afterwards where they were.

    They are that of the processor and that of ``device``, where a network draws its dropout:
    ``torch.manual_seed`` would seed those of all accelerators too, and take longer than a small
    step.
    """
    before = generator_state(device)
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
    try:
        yield
    finally:
        set_generator_state(before, device)


def generator_state(device: torch.device) -> Tensor:
    """Where torch's own generators are, of the processor and of ``device``: equal bytes (n,) before
    and after something that draws nothing."""
    own = torch.default_generator.get_state()
    if device.type == "cpu":
        return own
    return torch.cat([own, torch.get_device_module(device).get_rng_state(device)])


def set_generator_state(state: Tensor, device: torch.device) -> None:
    """Put back what :func:`generator_state` took."""
    own = len(torch.default_generator.get_state())
    torch.default_generator.set_state(state[:own])
    if device.type != "cpu":
        own_of_device = state[own:].clone()  # torch takes no view for a state: it crashes
        torch.get_device_module(device).set_rng_state(own_of_device, device)
