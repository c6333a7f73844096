"""One array as Flower carries it: NumPy's file format, whose header is worked out once a shape.

Flower saves and loads every array anew, and most of that time is spent on the text of its header
(scripts/bench_rounds.py). The bytes are the same; what is read is a view of them.
"""

from functools import lru_cache
from io import BytesIO
from typing import Any, Literal

import numpy as np
from flwr.app import Array
from numpy.typing import NDArray
from torch import Tensor

from fedlite.base.errors import FedliteError

STYPE = "numpy.ndarray"  # Flower's name of the format
_VERSION = b"\x93NUMPY\x01\x00"  # what it begins with, and then the header's length in two bytes
_KEPT = 1024  # headers


def encode(tensor: Tensor) -> Array:
    """The array that Flower makes of a tensor, with its values in the order of their indices."""
    values = tensor.detach().cpu().contiguous().numpy()
    raw = values.reshape(-1).view(np.uint8)
    data = b"".join((_header(values.dtype, values.shape), raw.data))
    return Array(str(values.dtype), values.shape, STYPE, data)


def decode(array: Array) -> NDArray[Any]:
    """The values of an array, which cannot be written to.

    Raises:
        FedliteError: what came is not in the format, or is shorter than it says.
    """
    data = array.data
    start = len(_VERSION) + 2 + int.from_bytes(data[len(_VERSION) : len(_VERSION) + 2], "little")
    try:
        if array.stype != STYPE or not data.startswith(_VERSION):
            raise ValueError(f"format {array.stype!r}")
        dtype, shape, order = _layout(data[:start])
        return np.ndarray(shape, dtype, buffer=data, offset=start, order=order)
    except (ValueError, TypeError, OverflowError) as error:
        raise FedliteError(f"cannot be read as an array ({error})") from error


@lru_cache(maxsize=_KEPT)
def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    file = BytesIO()
    described = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        file, {"descr": described, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


@lru_cache(maxsize=_KEPT)
def _layout(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"]]:
    """Type, shape and order (C or F) that a header tells.

    Raises:
        ValueError: it is none, too long, or of objects, which are never unpickled.
    """
    file = BytesIO(header)
    try:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # NumPy raises many types for a text that is no header
        raise ValueError("its header is damaged") from error
    if dtype.hasobject:
        raise ValueError("holds objects")
    return dtype, shape, "F" if fortran else "C"
