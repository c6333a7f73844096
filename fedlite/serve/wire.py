"""What a cascade's two halves send each other: rows of numbers there, probabilities back.

A request's body is rows of little-endian float32, or int64 of numbers of tokens, and nothing else:
the model's input shape says how many rows that is, so nothing has to be parsed. The answer is JSON.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.serve.kind import TOKEN_TYPES

ANSWERS, MODEL = "/v1/answers", "/v1/model"
MEDIA_TYPE = "application/octet-stream"


def wire_type(input_type: str) -> np.dtype[Any]:
    """How values travel to a model that takes ``input_type``."""
    return np.dtype("<i8" if input_type in TOKEN_TYPES else "<f4")


def packed(rows: NDArray[Any], input_type: str) -> bytes:
    """Rows (n, *input_shape) as they travel."""
    return rows.astype(wire_type(input_type)).tobytes()


def row_bytes(input_shape: tuple[int, ...], input_type: str) -> int:
    """Bytes of one row."""
    return int(np.prod(input_shape)) * wire_type(input_type).itemsize


def unpacked(body: bytes, input_shape: tuple[int, ...], input_type: str) -> NDArray[Any]:
    """The rows (n, *input_shape) of a body whose size is a multiple of a row's.

    Raises:
        ValueError: numbers that are not finite.
    """
    rows = np.frombuffer(body, wire_type(input_type)).reshape(-1, *input_shape)
    if not np.isfinite(rows).all():
        raise ValueError("holds numbers that are not finite")
    return rows
