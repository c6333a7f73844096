"""Trackers: told what TensorBoard is told, through their own libraries, without a server."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from fedlite.base.errors import FedliteError
from fedlite.report.events import TrackedRun
from fedlite.report.tensorboard import RunBoard
from fedlite.report.trackers import TRACKERS
from fedlite.report.tracking import Forgiving, open_tracker, require_library
from tests.report.runs import CLASSES, Report
from tests.report.test_tensorboard import log_rounds, read

ACCURACY = "1_how_good/accuracy"


class Notebook:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        for tag, value in scalars.items():
            self.seen[tag].append((step, value))

    def close(self, ok: bool) -> None:
        raise AssertionError("the board closes no tracker")


def tracked(directory: Path) -> TrackedRun:
    options = {"privacy.epsilon": 8.0, "student.name": "cnn", "teacher.checkpoint": None}
    return TrackedRun("a1b2c3", "outputs/demo", "fedlite", directory, options)


@pytest.mark.parametrize("events", [True, False])
def test_a_tracker_is_told_every_scalar_under_its_tag(
    tmp_path: Path, report: Report, events: bool
) -> None:
    notebook = Notebook()
    with RunBoard(tmp_path, tracker=notebook, events=events) as board:
        log_rounds(board, 1, 3)
        board.log_final(report, CLASSES)
    assert [step for step, _ in notebook.seen[ACCURACY]] == [1, 2, 3]
    assert notebook.seen["10_result/epsilon_max"] == [(20, pytest.approx(7.92))]
    files = list(tmp_path.glob("events.*"))
    assert bool(files) is events
    if events:
        written = read(tmp_path)
        tags = set(written.Tags()["scalars"])
        assert {tag for tag in notebook.seen if "_hparams_" not in tag} == tags
        for tag in tags:
            shown = [(one.step, one.value) for one in written.Scalars(tag)]
            assert shown == [(step, pytest.approx(value)) for step, value in notebook.seen[tag]]


def test_mlflow_holds_options_and_metrics_of_a_run_that_went_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow", reason="needs fedlite[mlflow]")
    for step, ok in ((1, False), (2, True)):
        tracker = TRACKERS.find("mlflow")(tracked(tmp_path))
        tracker.log({ACCURACY: 0.5 + step / 10}, step)
        tracker.close(ok)
        client = mlflow.MlflowClient()
        shelf = client.get_experiment_by_name("fedlite").experiment_id
        (found,) = client.search_runs([shelf])
        assert found.info.status == ("FINISHED" if ok else "FAILED")
    assert found.info.run_name == "outputs/demo"
    assert found.data.params["privacy.epsilon"] == "8.0"
    history = client.get_metric_history(found.info.run_id, ACCURACY)
    assert [(one.step, one.value) for one in history] == [(1, 0.6), (2, 0.7)]


def test_a_store_of_mlflow_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at-all")
    pytest.importorskip("mlflow", reason="needs fedlite[mlflow]")
    with pytest.raises(FedliteError, match=r"^tracking.tracker=mlflow: .*MLFLOW_TRACKING_URI\)$"):
        TRACKERS.find("mlflow")(tracked(Path()))


def test_wandb_keeps_an_offline_run_in_the_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for kind in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / kind))
    wandb = pytest.importorskip("wandb", reason="needs fedlite[wandb]")
    tracker = TRACKERS.find("wandb")(tracked(tmp_path))
    tracker.log({ACCURACY: 0.625}, 1)
    tracker.close(ok=True)
    wandb.teardown()  # its own process writes the file
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    written = file.read_bytes()
    for words in (ACCURACY, "privacy.epsilon", "outputs/demo", "a1b2c3"):
        assert words.encode() in written


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_library_that_is_not_there_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, name, None)
    said = rf"tracker={name}: {name} is not installed; pip install 'fedlite\[{name}\]'"
    with pytest.raises(FedliteError, match=said):
        open_tracker(name, tracked(Path()))
    with pytest.raises(FedliteError, match=said):
        require_library(name)


def test_a_tracker_that_fails_is_told_no_more_and_breaks_nothing() -> None:
    class Broken(Notebook):
        def log(self, scalars: Mapping[str, float], step: int) -> None:
            super().log(scalars, step)
            if step == 2:
                raise OSError("no space\nleft")

        def close(self, ok: bool) -> None:
            raise OSError("nor here")

    broken, told = Broken(), []
    tracker = Forgiving(broken, told.append)
    for step in (1, 2, 3):
        tracker.log({ACCURACY: 0.5}, step)
    tracker.close(ok=True)
    assert [step for step, _ in broken.seen[ACCURACY]] == [1, 2]
    (line,) = told
    assert line.endswith("the run goes on: no space left")
