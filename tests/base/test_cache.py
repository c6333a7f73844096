"""The cache: one folder, named by the environment or in the home, and none where none can be."""

from pathlib import Path

import pytest

from fedlite.base.cache import cache_folder, library_folder


def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLITE_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == str(tmp_path / "cache")
    assert library_folder("flwr") == tmp_path / "cache" / "flwr"
    assert library_folder("flwr").is_dir()


def test_a_library_has_a_folder_where_the_home_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("FEDLITE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_folder() == "~/.cache/fedlite"
    folder = library_folder("flwr")
    assert folder.parent == tmp_path
    assert list(folder.iterdir()) == []
