"""A run in a tracker: opened before anything trains, told what TensorBoard is, and closed."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from fedlite.cli.main import run
from fedlite.report.events import TrackedRun
from fedlite.runs.directory import run_id_of

OPENED: list["Notebook"] = []
HERE = "tracking.tracker=tests.runs.test_tracked.Notebook"


class Notebook:
    """A tracker of one's own, named by its path."""

    def __init__(self, run: TrackedRun) -> None:
        self.run, self.told, self.ok = run, {}, None
        OPENED.append(self)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        self.told |= dict(scalars)

    def close(self, ok: bool) -> None:
        self.ok = ok


@pytest.fixture
def folder(finished_run: Path, tmp_path: Path) -> Path:
    OPENED.clear()
    return shutil.copytree(finished_run, tmp_path / "outputs" / "here")


def test_it_is_told_results_and_options_but_no_paths(folder: Path) -> None:
    assert run(["report", str(folder), HERE, "tracking.tensorboard=false"]) == 0
    (notebook,) = OPENED
    assert notebook.ok is True
    assert notebook.told["10_result/accuracy"] > 0
    assert notebook.run.run_id == run_id_of(folder)
    assert notebook.run.name == "outputs/here"
    assert notebook.run.options["federation.rounds"] == 3
    assert not {"run.dir", "dataset.root", "teacher.cache_dir"} & set(notebook.run.options)


def test_a_run_that_breaks_off_is_closed_as_that(folder: Path) -> None:
    (folder / "pictures").rename(folder / "elsewhere")
    (folder / "pictures").touch()
    assert run(["report", str(folder), HERE]) == 1
    assert [notebook.ok for notebook in OPENED] == [False]


def test_a_tracker_that_fails_does_not_end_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(Notebook, "log", fail)
    monkeypatch.setattr(Notebook, "close", fail)
    assert run(["report", str(folder), HERE]) == 0
    assert (folder / "fedlite.log").read_text().count("the server is gone") == 1
