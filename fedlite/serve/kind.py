"""What a runtime is: an opened file that answers, and how one of its kind is opened."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
TOKEN_TYPES = ("int64", "int32")  # of numbers of tokens; smaller integers are quantized reals


class Runtime(Protocol):
    """An opened file that answers.

    ``name`` says which runtime, its version and device; ``input_shape`` is that of one example,
    without the batch; ``batch_size`` is the batch that the file was made for, None for any.
    ``value_type`` is what the file itself answers, such as ``float32`` or ``int8``, and
    ``input_type`` what it takes: the same, or ``int64`` or ``int32`` for numbers of tokens.
    """

    @property
    def name(self) -> str: ...

    @property
    def input_shape(self) -> tuple[int, ...]: ...

    @property
    def batch_size(self) -> int | None: ...

    @property
    def value_type(self) -> str: ...

    @property
    def input_type(self) -> str: ...

    def run(self, batch: Array) -> Array:
        """Logits (n, classes) of normalised inputs (n, *input_shape), for any n from 1.

        A file with a batch of its own is called as often as that takes.
        """
        ...


@dataclass(frozen=True)
class RuntimeKind:
    """How files of one suffix are served; the modules of ``serve/runtimes`` hold one each.

    ``label`` names the format to people, ``module`` must be importable and comes with ``package``;
    ``open`` takes the path and the number of threads. ``platform`` is the only ``sys.platform`` it
    runs on, in words ``system``; None for any.
    """

    label: str
    suffix: str
    module: str
    package: str
    open: Callable[[Path, int], Runtime]
    platform: str | None = None
    system: str = ""

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def runs_here(self) -> bool:
        """Whether this machine's system is one that it runs on."""
        return self.platform in (None, sys.platform)


def as_taken(batch: NDArray[Any], input_type: str) -> NDArray[Any]:
    """Numbers of tokens in the type that a file takes; anything else as it is."""
    return batch.astype(input_type, copy=False) if input_type in TOKEN_TYPES else batch


def in_batches(inputs: Array, size: int, run: Callable[[Array], Array]) -> Array:
    """Rows of ``run`` over batches of exactly ``size``; the last one is filled up with zeros."""
    if len(inputs) == size:
        return run(inputs)
    found = []
    for start in range(0, len(inputs), size):
        batch = inputs[start : start + size]
        missing = size - len(batch)
        if missing:
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)])
        found.append(run(batch)[: size - missing])
    return np.concatenate(found)


@contextlib.contextmanager
def native_output_silenced() -> Iterator[None]:
    """Let nothing through that libraries below Python write to the terminal's stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
