"""Inputs as users have them: what is refused, and what is said of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedlite.base.errors import UsageError
from fedlite.data.inputs import check_inputs, input_notes, named_as_id
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import RawData, read_raw
from fedlite.data.splits import load_splits
from tests.data.test_splits import IID


def read(folder: Path, inputs: np.ndarray, **options: Any) -> RawData:
    """Inputs of one's own, from an .npz file."""
    np.savez(folder / "data.npz", x=inputs, y=np.arange(len(inputs)) % 2)
    keys, files = {"inputs_train": "x", "labels_train": "y"}, {"data": "data.npz"}
    return read_raw(DatasetOptions("mine", "npz", str(folder), files=files, keys=keys, **options))


def test_nan_is_named_by_its_column() -> None:
    inputs = np.ones((4, 3))
    inputs[2, 1] = np.inf
    with pytest.raises(UsageError, match=r"1 of 4 .* first is example 2, in feature 1\)"):
        check_inputs(inputs, "inputs")
    with pytest.raises(UsageError, match=r"in column 'pulse'\); remove or fill"):
        check_inputs(inputs, "inputs", ("age", "pulse", "sleep"))


@pytest.mark.parametrize(
    ("shape", "layout", "right"),
    [
        ((28, 28, 1), "channels_first", "channels_last"),
        ((32, 32, 3), "channels_first", "channels_last"),
        ((1, 28, 28), "channels_last", "channels_first"),
        ((3, 32, 32), "channels_last", "channels_first"),
    ],
)
def test_images_with_channels_elsewhere_are_refused(
    tmp_path: Path, shape: tuple[int, ...], layout: str, right: str
) -> None:
    inputs = np.zeros((6, *shape), dtype=np.uint8)
    with pytest.raises(UsageError, match=f"give dataset.layout={right}") as refusal:
        read(tmp_path, inputs, layout=layout)
    assert str(shape) in str(refusal.value)
    assert read(tmp_path, inputs, layout=right).notes == ()


@pytest.mark.parametrize(
    ("shape", "layout", "said"),
    [
        ((28, 28), "channels_first", "dataset.layout=none"),
        ((128, 9), "channels_first", "dataset.layout=channels_last"),
        ((9, 128), "channels_last", "dataset.layout=channels_first"),
        ((9, 128), "channels_first", ""),
        ((28, 28), "none", ""),
        ((9, 128, 1), "channels_first", ""),
    ],
)
def test_a_layout_that_may_not_be_meant_is_said(
    tmp_path: Path, shape: tuple[int, ...], layout: str, said: str
) -> None:
    notes = read(tmp_path, np.zeros((6, *shape), dtype=np.uint8), layout=layout).notes
    assert said in " ".join(notes)
    assert len(notes) == bool(said)


def test_ids_and_constant_features_are_said(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).normal(size=(40, 4))
    assert read(tmp_path, inputs).notes == ()
    inputs[:, 1], inputs[:, 3] = np.random.default_rng(1).permutation(40) + 1000, 7
    notes = read(tmp_path, inputs).notes
    assert len(notes) == 2
    assert "feature 1 looks like an id" in notes[0]
    assert "1 of 4 features are the same in every training example" in notes[1]
    assert "feature 3" in notes[1]


def test_an_id_is_known_by_its_name_too() -> None:
    inputs = np.array([[1, 0.5], [1, 0.7], [2, 0.1]], dtype=np.float32)
    notes = list(
        input_notes(inputs, DatasetOptions("mine", "npz"), "mine", ("patient_id", "fluid"))
    )
    assert len(notes) == 1
    assert "'patient_id' looks like an id" in notes[0]
    assert all(map(named_as_id, ["id", "ID", "user_id", "PatientID", "customerId", "index", ""]))
    assert not any(map(named_as_id, ["humid", "acid", "side", "idle", "width"]))


def test_sparse_features_bring_a_hint_where_they_are_divided_by_their_deviation(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 4)) * (rng.random((400, 4)) < (0.02, 0.1, 1, 1))
    assert "2 of 4 features are sparse" in " ".join(read(tmp_path, inputs).notes)
    assert read(tmp_path, inputs, standardise="robust").notes == ()


def test_notes_go_with_the_splits(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).normal(size=(40, 2))
    inputs[:, 1] = 3
    read(tmp_path, inputs)
    keys, files = {"inputs_train": "x", "labels_train": "y"}, {"data": "data.npz"}
    options = DatasetOptions("mine", "npz", str(tmp_path), files=files, keys=keys)
    assert "tell nothing" in " ".join(load_splits(options, IID, 2, 0).notes)


def test_an_archive_of_objects_is_refused_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'x' holds Python objects.*\.astype\(str\)") as refusal:
        read(tmp_path, np.array([[1], [1, 2]], dtype=object))
    assert "allow_pickle" not in str(refusal.value)
    (tmp_path / "data.npz").write_bytes(b"no archive at all")
    keys, files = {"inputs_train": "x", "labels_train": "y"}, {"data": "data.npz"}
    with pytest.raises(UsageError, match=r"no \.npz archive; write it anew") as refusal:
        read_raw(DatasetOptions("mine", "npz", str(tmp_path), files=files, keys=keys))
    assert "pickle" not in str(refusal.value)
