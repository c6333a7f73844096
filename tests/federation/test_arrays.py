"""Arrays on the wire are Flower's own, to the byte, and nothing else is taken for one."""

import numpy as np
import pytest
import torch
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st

from fedlite.base.errors import FedliteError
from fedlite.federation.arrays import decode, encode

TYPES = [torch.float32, torch.float64, torch.float16, torch.int64, torch.bool, torch.uint8]


@given(shape=st.lists(st.integers(0, 4), max_size=4), dtype=st.sampled_from(TYPES))
def test_an_array_is_the_one_that_flower_makes(shape: list[int], dtype: torch.dtype) -> None:
    tensor = (torch.rand(shape) * 9).to(dtype)
    ours, theirs = encode(tensor), Array(tensor)
    assert vars(ours) == vars(theirs)
    values = decode(theirs)
    assert (values.dtype, values.shape) == (theirs.numpy().dtype, tuple(shape))
    assert np.array_equal(values, theirs.numpy())
    assert not values.flags.writeable


def test_other_orders_in_memory_change_no_value() -> None:
    tensor = torch.arange(24.0).reshape(2, 3, 4)
    moved = tensor.permute(2, 0, 1)
    assert np.array_equal(decode(encode(moved)), moved.numpy())
    by_column = np.asfortranarray(tensor[0].numpy())
    assert np.array_equal(decode(Array(by_column)), by_column)


GOOD = encode(torch.arange(6.0))
START = len(GOOD.data) - 24


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04" + GOOD.data,
        GOOD.data[:START],
        GOOD.data[:-1],
        GOOD.data[: START // 2],
        GOOD.data.replace(b"(6,)", b"(7,)"),
        GOOD.data.replace(b"(6,)", b"(-6"),
        GOOD.data.replace(b"(6,), ", b"(9**9)"),
        GOOD.data.replace(b"'<f4'", b"'|O' "),
        GOOD.data.replace(b"NUMPY\x01", b"NUMPY\x02"),
    ],
)
def test_what_is_no_array_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(FedliteError, match="cannot be read as an array"):
        decode(Array("float32", (6,), "numpy.ndarray", data))


def test_another_format_is_refused() -> None:
    with pytest.raises(FedliteError, match="pickle"):
        decode(Array("float32", (6,), "pickle", GOOD.data))
