"""Torch's operators translated into ONNX's, which torch.onnx reads anew for every export."""

import contextlib
from collections.abc import Iterator
from functools import cache
from typing import Any

try:
    from torch.onnx._internal.exporter import _registration
except ImportError:  # a torch that keeps them elsewhere; it reads them each time
    _registration = None  # type: ignore[assignment]

REGISTRY: Any = getattr(_registration, "ONNXRegistry", None)
_from_torchlib: Any = cache(REGISTRY.from_torchlib) if REGISTRY else None


@contextlib.contextmanager
def translations_read_once() -> Iterator[None]:
    """Within, exports share the translations that the first one of the process read.

    Reading parses the source of some 500 functions, more work than the graph of a small student.
    Exports outside see nothing of it, so none adds its own translations to the shared ones.
    """
    if REGISTRY is None:
        yield
        return
    reads = vars(REGISTRY)["from_torchlib"]
    REGISTRY.from_torchlib = staticmethod(_from_torchlib)
    try:
        yield
    finally:
        REGISTRY.from_torchlib = reads
