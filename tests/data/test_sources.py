"""Reading examples: every source, and every way a source can be bad."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fedlite.base.errors import UsageError
from fedlite.data.archives import read_arrays
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import RawData, read_raw
from fedlite.data.sources.idx import read_idx_file

DIGITS = DatasetOptions(name="digits", source="digits")
NPZ_KEYS = {"inputs_train": "x", "labels_train": "y"}


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """A small valid IDX set: training files plain, test files gzipped."""
    rng = np.random.default_rng(0)
    for stem, count, pack in (("train", 12, bytes), ("t10k", 6, gzip.compress)):
        suffix = ".gz" if pack is gzip.compress else ""
        images = rng.integers(0, 256, (count, 4, 5))
        (tmp_path / f"{stem}-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(images)))
        labels = np.arange(count) % 3
        (tmp_path / f"{stem}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(labels)))
    return tmp_path


def read_idx(root: Path, **options: Any) -> RawData:
    return read_raw(DatasetOptions(name="mine", source="idx", root=str(root), **options))


def read_npz(root: Path, arrays: dict[str, Any], **options: Any) -> RawData:
    np.savez(root / "data.npz", **arrays)
    options = {"keys": NPZ_KEYS, "files": {"data": "data.npz"}} | options
    return read_raw(DatasetOptions(name="mine", source="npz", root=str(root), **options))


def features(count: int = 6) -> dict[str, np.ndarray]:
    inputs = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    return {"x": inputs, "y": np.arange(count) % 2}


# --- sources that are good ---------------------------------------------------------------------


def test_digits_are_the_real_ones() -> None:
    raw = read_raw(DIGITS)
    assert raw.inputs_train.shape == (1797, 1, 8, 8)
    assert (raw.inputs_train.dtype, raw.inputs_train.max(), raw.scale) == (np.uint8, 16, 16.0)
    assert raw.class_names == tuple("0123456789")
    assert raw.inputs_test is None


def test_fashion_mnist_is_read_whole(data_dir: Path) -> None:
    raw = read_idx(data_dir / "fashion_mnist")
    assert raw.inputs_train.shape == (60_000, 1, 28, 28)
    assert raw.scale == 255
    assert (np.bincount(raw.labels_train) == 6000).all()
    assert raw.labels_test is not None
    assert (np.bincount(raw.labels_test) == 1000).all()


def test_mnist_has_539_writers(data_dir: Path) -> None:
    files, keys = {"groups": "writers.npz"}, {"groups_train": "writer_train"}
    raw = read_idx(data_dir / "mnist", files=files, keys=keys)
    assert raw.groups is not None
    counts = np.bincount(raw.groups)
    assert (len(counts), counts.min(), counts.max()) == (539, 19, 131)


def test_har_is_transposed_to_channels_first(data_dir: Path) -> None:
    keys = {
        "inputs_train": "x_train",
        "labels_train": "y_train",
        "inputs_test": "x_test",
        "labels_test": "y_test",
        "groups_train": "subject_train",
        "class_names": "label_names",
    }
    root, files = str(data_dir / "uci_har"), {"data": "inertial.npz"}
    raw = read_raw(
        DatasetOptions("har", "npz", root, files=files, keys=keys, layout="channels_last")
    )
    with np.load(data_dir / "uci_har" / "inertial.npz") as stored:
        np.testing.assert_array_equal(raw.inputs_train[7, 2], stored["x_train"][7, :, 2])
    assert raw.inputs_train.shape == (7352, 9, 128)
    assert raw.groups is not None
    assert len(np.unique(raw.groups)) == 21
    assert raw.class_names is not None
    assert raw.class_names[5] == "LAYING"


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"])
def test_idx_finds_plain_and_gzipped_files(idx_folder: Path, name: str) -> None:
    raw = read_idx(idx_folder, files={"train_images": name})
    assert raw.inputs_train.shape == (12, 1, 4, 5)
    assert raw.inputs_test is not None
    assert raw.inputs_test.shape == (6, 1, 4, 5)


@pytest.mark.parametrize(
    ("layout", "stored", "arranged"),
    [
        ("channels_first", (6, 3, 4, 5), (6, 3, 4, 5)),
        ("channels_first", (6, 3, 4), (6, 3, 4)),
        ("channels_last", (6, 4, 5, 3), (6, 3, 4, 5)),
        ("channels_last", (6, 4, 3), (6, 3, 4)),
        ("none", (6, 4, 5), (6, 1, 4, 5)),
        ("none", (6, 4), (6, 4)),
    ],
)
def test_layouts(
    tmp_path: Path, layout: str, stored: tuple[int, ...], arranged: tuple[int, ...]
) -> None:
    arrays = {"x": np.zeros(stored, dtype=np.uint8), "y": np.arange(6) % 2}
    raw = read_npz(tmp_path, arrays, layout=layout)
    assert raw.inputs_train.shape == arranged
    assert raw.scale == 255


def test_natural_ids_become_codes_in_sorted_order(tmp_path: Path) -> None:
    arrays = features() | {"g": np.array(["zoe", "ann", "zoe", "bob", "ann", "zoe"])}
    raw = read_npz(tmp_path, arrays, keys=NPZ_KEYS | {"groups_train": "g"})
    assert raw.groups is not None
    assert raw.groups.tolist() == [2, 0, 2, 1, 0, 2]


def read_pairs(options: DatasetOptions) -> RawData:
    """A source of one's own."""
    return RawData(np.eye(4, dtype=np.uint8) * int(options.keys["size"]), np.arange(4) % 2)


def test_a_source_of_ones_own_is_named_by_its_path() -> None:
    own = DatasetOptions("mine", f"{__name__}.read_pairs", keys={"size": "7"})
    raw = read_raw(own)
    assert (raw.inputs_train == np.eye(4) * 7).all()
    assert (raw.class_names, raw.scale) == (("0", "1"), 255.0)  # what every source goes through
    with pytest.raises(UsageError, match=r"dataset.source=tape: must be one of digits, hugg"):
        read_raw(DatasetOptions("mine", "tape"))


# --- Hugging Face data sets from local paths ----------------------------------------------------


def read_huggingface(root: Path, keys: dict[str, str], **options: Any) -> RawData:
    return read_raw(
        DatasetOptions(name="mine", source="huggingface", root=str(root), keys=keys, **options)
    )


def test_huggingface_images_with_class_labels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 5, 3), dtype=np.uint8)
    columns = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "owner": datasets.Value("string"),
        }
    )
    rows = {
        "image": [Image.fromarray(image) for image in pixels],
        "label": [0, 1] * 4,
        "owner": list("aabbccdd"),
    }
    train = datasets.Dataset.from_dict(rows, features=columns)
    parts = datasets.DatasetDict({"train": train, "test": train.select(range(3))})
    parts.save_to_disk(tmp_path / "saved")
    keys = {"inputs": "image", "labels": "label", "groups": "owner", "split_test": "test"}
    raw = read_huggingface(tmp_path / "saved", keys)
    np.testing.assert_array_equal(raw.inputs_train, np.moveaxis(pixels, -1, 1))
    assert raw.class_names == ("cat", "dog")
    assert raw.groups is not None
    assert raw.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert raw.inputs_test is not None
    assert len(raw.inputs_test) == 3


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two number columns and a text label."""
    lines = [f"{i},{i / 2},{'yes' if i % 2 else 'no'}" for i in range(10)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["age,height,answer", *lines]) + "\n")
    return path


def test_huggingface_table_with_text_labels(table: Path) -> None:
    raw = read_huggingface(table, {"inputs": "age, height", "labels": "answer"})
    np.testing.assert_array_equal(raw.inputs_train[3], [3.0, 1.5])
    assert raw.class_names == ("no", "yes")
    assert raw.labels_train.tolist() == [0, 1] * 5


def test_huggingface_parquet_with_an_array_column(tmp_path: Path) -> None:
    signal = np.random.default_rng(0).normal(size=(6, 7, 2)).astype(np.float32)
    rows = {"signal": signal.tolist(), "label": [0, 1, 2] * 2}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
    keys = {"inputs": "signal", "labels": "label"}
    raw = read_huggingface(tmp_path / "rows.parquet", keys, layout="channels_last")
    np.testing.assert_array_equal(raw.inputs_train, np.moveaxis(signal, -1, 1))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"inputs": "weight", "labels": "answer"}, "no column 'weight'.*age, height, answer"),
        ({"inputs": "answer", "labels": "answer"}, "'answer' holds text"),
        ({"inputs": "", "labels": "answer"}, "keys.inputs: missing"),
        ({"inputs": "age"}, "keys.labels: missing"),
        ({"inputs": "age", "labels": "answer", "split_test": "test"}, "no split 'test'; has train"),
    ],
)
def test_huggingface_bad_columns(table: Path, keys: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_huggingface(table, keys)


def test_huggingface_bad_files(tmp_path: Path) -> None:
    keys = {"inputs": "age", "labels": "answer"}
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UsageError, match="cannot be loaded"):
        read_huggingface(tmp_path / "bad.parquet", keys)
    (tmp_path / "holes.csv").write_text("age,answer\n1,0\n,1\n3,1\n")
    with pytest.raises(UsageError, match="'age': 1 of 3 cells are empty"):
        read_huggingface(tmp_path / "holes.csv", keys)
    with pytest.raises(UsageError, match="no such path"):
        read_huggingface(tmp_path / "nowhere", keys)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["idx", "npz", "huggingface"])
def test_missing_root_names_the_path_and_the_way_out(tmp_path: Path, source: str) -> None:
    config = DatasetOptions(
        name="mine",
        source=source,
        root=str(tmp_path / "nowhere"),
        files={"data": "data.npz"},
        keys=NPZ_KEYS | {"inputs": "x", "labels": "y"},
    )
    with pytest.raises(UsageError, match=r"nowhere: no such path.*FEDLITE_DATA"):
        read_raw(config)


def test_idx_truncated_gzip(idx_folder: Path) -> None:
    path = idx_folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match=r"t10k-images.*corrupt or truncated gzip"):
        read_idx(idx_folder)


def test_idx_bad_magic(idx_folder: Path) -> None:
    path = idx_folder / "train-labels-idx1-ubyte"
    path.write_bytes(b"\x00\x00\x0d\x01" + path.read_bytes()[4:])
    with pytest.raises(UsageError, match="begins with 00000d01, expected 00000801"):
        read_idx(idx_folder)


def test_idx_images_and_labels_swapped(idx_folder: Path) -> None:
    with pytest.raises(UsageError, match="begins with 00000801, expected 00000803"):
        read_idx(idx_folder, files={"train_images": "train-labels-idx1-ubyte"})


@pytest.mark.parametrize(("cut", "problem"), [(slice(-1), "truncated"), (slice(10), "header")])
def test_idx_truncated_plain(idx_folder: Path, cut: slice, problem: str) -> None:
    path = idx_folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(UsageError, match=problem):
        read_idx(idx_folder)


def test_idx_labels_of_another_count(idx_folder: Path) -> None:
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(11) % 3))
    with pytest.raises(UsageError, match=r"training labels: shape \(11,\), but there are 12"):
        read_idx(idx_folder)


def test_idx_missing_file(idx_folder: Path) -> None:
    (idx_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UsageError, match="no file t10k-labels-idx1-ubyte"):
        read_idx(idx_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.full((6, 4), np.nan)}, "6 of 6 examples hold NaN"),
        ({"x": np.full((6, 4), 1e300)}, "infinite"),
        ({"x": np.array([["a"]] * 6)}, "no numbers"),
        ({"x": np.zeros(6)}, r"does not fit inputs of shape \(6,\)"),
        ({"x": np.zeros((0, 4)), "y": np.zeros(0, int)}, "holds no examples"),
        ({"y": np.array([0, 1, 0])}, "there are 6 inputs"),
        ({"y": np.zeros(6, int)}, "fewer than 2 classes"),
    ],
)
def test_bad_arrays(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_npz(tmp_path, features() | change)


def test_nan_message_names_the_first_example(tmp_path: Path) -> None:
    arrays = features()
    arrays["x"][3, 1] = np.nan
    with pytest.raises(UsageError, match=r"training inputs: 1 of 6 .*first is example 3"):
        read_npz(tmp_path, arrays)


def test_test_labels_out_of_range(tmp_path: Path) -> None:
    keys = NPZ_KEYS | {"inputs_test": "xt", "labels_test": "yt"}
    arrays = features() | {"xt": features(2)["x"], "yt": np.array([0, 2])}
    with pytest.raises(UsageError, match="test labels: label 2 does not occur in the training"):
        read_npz(tmp_path, arrays, keys=keys)
    with pytest.raises(UsageError, match="both inputs and labels"):
        read_npz(tmp_path, arrays, keys=NPZ_KEYS | {"inputs_test": "xt"})


def test_test_inputs_of_another_shape(tmp_path: Path) -> None:
    keys = NPZ_KEYS | {"inputs_test": "xt", "labels_test": "yt"}
    arrays = features() | {"xt": np.zeros((2, 5), np.float32), "yt": np.array([0, 1])}
    with pytest.raises(UsageError, match=r"shape \(4,\).*shape \(5,\); they must be the same"):
        read_npz(tmp_path, arrays, keys=keys)


@pytest.mark.parametrize(
    ("names", "message"), [(["a"], "label 1 is out of range"), (["a", "b", "c"], "3 names.*2 cl")]
)
def test_class_names_of_a_wrong_count(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_npz(tmp_path, features(), class_names=names)


def test_natural_ids_of_another_length(tmp_path: Path) -> None:
    keys = NPZ_KEYS | {"groups_train": "g"}
    with pytest.raises(UsageError, match="natural ids"):
        read_npz(tmp_path, features() | {"g": np.arange(5)}, keys=keys)


def test_npz_missing_key_lists_what_is_there(tmp_path: Path) -> None:
    keys = {"inputs_train": "images", "labels_train": "y"}
    with pytest.raises(UsageError, match=r"no array 'images' \(dataset.keys.inputs_train\); has x"):
        read_npz(tmp_path, features(), keys=keys)
    with pytest.raises(UsageError, match=r"dataset\.keys\.labels_train: missing"):
        read_npz(tmp_path, features(), keys={"inputs_train": "x"})


def test_npz_never_unpickles(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}] * 6, dtype=object)
    with pytest.raises(UsageError, match="Python objects"):
        read_npz(tmp_path, features() | {"x": objects})


def test_npz_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name, message in (
        ("text.npz", "no .npz archive"),
        ("single.npy", "single array"),
        ("none.npz", "no such file"),
    ):
        with pytest.raises(UsageError, match=message):
            read_arrays(tmp_path / name, {"inputs_train": "x"})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(cut=0, flips=[846])  # a zip version that zipfile refuses with NotImplementedError
@given(cut=st.integers(0, 10_000), flips=st.lists(st.integers(0, 10_000), max_size=3))
def test_damaged_files_end_in_one_line_or_are_read(
    tmp_path: Path, cut: int, flips: list[int]
) -> None:
    np.savez_compressed(tmp_path / "good.npz", **features())
    good = {
        "a.npz": (tmp_path / "good.npz").read_bytes(),
        "a.gz": gzip.compress(idx_bytes(np.zeros((2, 3, 4)))),
    }
    for name, content in good.items():
        damaged = bytearray(content)
        for flip in flips:
            damaged[flip % len(damaged)] ^= 0x55
        (tmp_path / name).write_bytes(bytes(damaged[: max(1, len(damaged) - cut % len(damaged))]))
    assert "\n" not in problem(lambda: read_arrays(tmp_path / "a.npz", NPZ_KEYS))
    assert "\n" not in problem(lambda: read_idx_file(tmp_path / "a.gz", 3))


def problem(read: Callable[[], object]) -> str:
    """The message of the one error that a reader may raise; empty where it raises none."""
    try:
        read()
    except UsageError as error:
        return str(error)
    return ""
