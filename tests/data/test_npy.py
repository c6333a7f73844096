"""Arrays in a .npy file each: mapped from disk, with a test part where there is one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import RawData, read_raw

INPUTS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def read(folder: Path, files: dict[str, str] | None = None, **options: Any) -> RawData:
    return read_raw(DatasetOptions("mine", "npy", str(folder), files=files or {}, **options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "x_train.npy", INPUTS)
    np.save(tmp_path / "y_train.npy", np.array(["a", "b"] * 4))
    return tmp_path


def test_inputs_stay_on_disk(folder: Path) -> None:
    raw = read(folder)
    assert isinstance(raw.inputs_train, np.memmap)
    np.testing.assert_array_equal(raw.inputs_train, INPUTS)
    assert (raw.class_names, raw.inputs_test) == (("a", "b"), None)
    raw.inputs_train[0] = 0  # a change stays in memory
    np.testing.assert_array_equal(np.load(folder / "x_train.npy"), INPUTS)


def test_a_test_part_and_other_names(folder: Path) -> None:
    np.save(folder / "x_test.npy", INPUTS[:4])
    with pytest.raises(UsageError, match=r"y_test.npy: no such file; .* dataset.files.labels_test"):
        read(folder)
    np.save(folder / "y_test.npy", np.array(["b", "a"] * 2))
    np.save(folder / "who.npy", np.arange(8) // 2)
    raw = read(folder, {"groups_train": "who.npy"})
    assert raw.labels_test is not None
    assert raw.groups is not None
    assert (raw.labels_test.tolist(), raw.groups.tolist()) == ([1, 0] * 2, [0, 0, 1, 1, 2, 2, 3, 3])
    np.save(folder / "images.npy", np.zeros((8, 4, 4, 3), np.uint8))
    images = read(
        folder,
        {"inputs_train": "images.npy", "inputs_test": "images.npy", "labels_test": "y_train.npy"},
        layout="channels_last",
    )
    assert images.inputs_train.shape == (8, 3, 4, 4)
    with pytest.raises(UsageError, match=r"none.npy: no such file"):
        read(folder, {"inputs_test": "none.npy"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([[1], [1, 2]], dtype=object), "holds Python objects"),
        (b"no array", r"no \.npy file; write it anew"),
        (b"\x93NUMPY\x01\x00", r"no \.npy file; write it anew"),
    ],
)
def test_damaged_files_are_one_line(folder: Path, content: Any, message: str) -> None:
    if isinstance(content, bytes):
        (folder / "x_train.npy").write_bytes(content)
    else:
        np.save(folder / "x_train.npy", content, allow_pickle=True)
    with pytest.raises(UsageError, match=message) as refusal:
        read(folder)
    assert "\n" not in str(refusal.value)
    assert "pickle" not in str(refusal.value)
