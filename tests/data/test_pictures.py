"""A folder of pictures as a data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlite.base.errors import FedliteError, UsageError
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import read_raw


def paint(path: Path, colour: int | tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "L" if isinstance(colour, int) else "RGB"
    Image.new(mode, size, colour).save(path)


def options(root: Path, **more: object) -> DatasetOptions:
    return DatasetOptions(name="mine", source="pictures", root=str(root), **more)  # type: ignore[arg-type]


def test_a_folder_is_a_class_and_grey_pictures_stay_grey(tmp_path: Path) -> None:
    paint(tmp_path / "dark" / "a.png", 10)
    paint(tmp_path / "dark" / "deeper" / "b.bmp", 20)
    paint(tmp_path / "light (1)" / "ä,=#.png", 200)
    (tmp_path / "light (1)" / "notes.txt").write_text("not a picture")
    (tmp_path / "light (1)" / ".hidden.png").write_text("not a picture")
    paint(tmp_path / "light (1)" / ".thumbnails" / "a.png", 30)
    raw = read_raw(options(tmp_path))
    assert raw.class_names == ("dark", "light (1)")
    assert raw.inputs_train.shape == (3, 1, 8, 8)
    assert raw.inputs_train[:, 0, 0, 0].tolist() == [10, 20, 200]
    assert raw.labels_train.tolist() == [0, 0, 1]
    assert raw.inputs_test is None
    assert any("1 files are no pictures" in note for note in raw.notes)


def test_train_and_test_are_found_and_one_picture_in_colour_makes_all_three_channels(
    tmp_path: Path,
) -> None:
    paint(tmp_path / "train" / "a" / "1.png", 10)
    paint(tmp_path / "train" / "b" / "1.png", (250, 0, 0))
    paint(tmp_path / "test" / "b" / "1.png", 90)
    raw = read_raw(options(tmp_path))
    assert raw.inputs_train.shape == (2, 3, 8, 8)
    assert raw.inputs_train[1, :, 0, 0].tolist() == [250, 0, 0]
    assert raw.inputs_test is not None
    assert raw.inputs_test.shape == (1, 3, 8, 8)
    assert raw.labels_test is not None
    assert raw.labels_test.tolist() == [1]
    grey = read_raw(options(tmp_path, colour="grey"))
    assert grey.inputs_train.shape == (2, 1, 8, 8)


def test_pictures_of_several_sizes_are_fitted_or_refused(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "wide.jpg", 100, size=(40, 20))
    paint(tmp_path / "b" / "tall.png", 200, size=(10, 30))
    with pytest.raises(UsageError, match=r"2 sizes.*10x30 \(tall.png\).*dataset.size=32"):
        read_raw(options(tmp_path))
    raw = read_raw(options(tmp_path, size=16))
    assert raw.inputs_train.shape == (2, 1, 16, 16)
    assert np.abs(raw.inputs_train[0].astype(int) - 100).max() <= 2  # sides as the border


def test_what_is_no_folder_of_pictures_is_said(tmp_path: Path) -> None:
    paint(tmp_path / "only" / "a.png", 10)
    with pytest.raises(UsageError, match=r"fewer than 2 classes|one class"):
        read_raw(options(tmp_path))
    with pytest.raises(UsageError, match="no folder with pictures"):
        read_raw(options(tmp_path / "only"))
    with pytest.raises(UsageError, match=r"dataset.files.test=nope: no such folder"):
        read_raw(options(tmp_path, files={"train": "", "test": "nope"}))
    with pytest.raises(UsageError, match="not a folder"):
        read_raw(options(tmp_path / "only" / "a.png"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(FedliteError, match=r"broken.png: not an image, or damaged"):
        read_raw(options(tmp_path))
    (tmp_path / "b" / "broken.png").unlink()
    paint(tmp_path / "b" / "b.png", 20)
    paint(tmp_path / "test" / "c" / "b.png", 20)
    with pytest.raises(UsageError, match="needs a folder of its own"):
        read_raw(options(tmp_path, files={"train": "", "test": "test"}))
    paint(tmp_path / "train" / "a" / "b.png", 20)
    with pytest.raises(UsageError, match="class 'c' has no folder"):
        read_raw(options(tmp_path))
