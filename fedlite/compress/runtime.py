"""Opening and running exported files in ONNX Runtime; light: numpy and onnxruntime only."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fedlite.errors import FedliteError, UsageError

Array = NDArray[np.float32]


def runtime_name() -> str:
    """Name, version and device of the runtime, such as ``onnxruntime 1.31.1 cpu``."""
    return f"onnxruntime {onnxruntime.__version__} cpu"


def open_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A CPU session on ``path`` with ``threads`` threads within and one between operators.

    Raises:
        UsageError: no such file.
        FedliteError: the file is damaged or not a model.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; expected an exported model (.onnx)")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no public base class
        raise FedliteError(f"{path}: not an ONNX model, or damaged") from error


def logits_of(session: onnxruntime.InferenceSession, inputs: Array, batch_size: int = 256) -> Array:
    """Logits (n, classes) of normalised ``inputs`` (n, *input_shape), batch by batch."""
    name = session.get_inputs()[0].name
    return np.concatenate(
        [session.run(None, {name: batch})[0] for batch in _batches(inputs, batch_size)]
    )


def _batches(inputs: Array, size: int) -> Iterator[Array]:
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size]
