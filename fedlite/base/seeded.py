"""Torch's own generator, seeded for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let what draws from torch's own generator draw from ``seed`` (63 bits). The generator goes on
    afterwards where it was.

    It is that of the processor, where networks are made and trained: ``torch.manual_seed`` would
    seed those of all accelerators too, and take longer than a small step.
    """
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)
