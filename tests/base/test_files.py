"""Files and folders that are whole or absent."""

from pathlib import Path

import pytest

from fedlite.base.files import replace_folder


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / content).touch()
    return path


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    old = folder(tmp_path / "models", "old")
    for name in ("new", "newer"):
        replace_folder(folder(tmp_path / "made", name), old)
        assert [file.name for file in old.iterdir()] == [name]
    assert [entry.name for entry in tmp_path.iterdir()] == ["models"]


def test_the_old_folder_stays_where_the_new_one_cannot_be_moved(tmp_path: Path) -> None:
    old = folder(tmp_path / "models", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", old)
    assert [file.name for file in old.iterdir()] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["models"]
