"""``fedlite tune``: real federations on public data; nothing private is touched or charged."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedlite.base.paired_scores import Classes
from fedlite.cli.main import run
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.splits import splits_of
from fedlite.runs.stages.tune import Trials
from fedlite.search.tune_world import public_folds
from tests.conftest import TINY

QUICK = [
    *TINY,
    "student=mlp",
    "teacher.epochs=1",
    "distill.warm_start.epochs=1",
    "federation.rounds=2",
    "privacy.accountant=rdp",
    "privacy.noise_multiplier=1.0",
    "tune.confirmations=1",
    "tune.max_clients=2",
]
COMMAND = ["tune", *QUICK, "tune.trials=2", "tune.population=2"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a tuning that came to its end."""
    folder = tmp_path_factory.mktemp("tuned") / "it's here"
    assert run([*COMMAND, str(folder)]) == 0
    return folder


def test_no_ledger_of_a_client_is_there(tuned: Path) -> None:
    assert list(tuned.rglob("*.ledger*")) == []
    assert not (tuned / "ledgers").exists()
    assert {path.name for path in (tuned / "tune").iterdir()} >= {
        "experiment.yaml",
        "trials.csv",
        "trials.json",
    }


def test_the_experiment_is_the_run_with_what_was_chosen(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another working directory, and with nothing of the tuning in it."""
    facts = json.loads((tuned / "state.json").read_text())["stages"]["tune"]
    path = tuned / facts["experiment_file"]
    monkeypatch.chdir(tmp_path)
    text = path.read_text()
    assert "No private example was used" in text
    assert "Chosen by `fedlite tune" in text
    assert "tune:" not in text
    chosen = compose_config(["run.dir=x", f"experiment={path}"])
    expected = compose_config(
        ["run.dir=x", *QUICK, *(f"{key}={value}" for key, value in facts["chosen"].items())]
    )
    assert without_the_tuning(chosen) == without_the_tuning(expected)


def without_the_tuning(config: Config) -> Config:
    other = compose_config(["run.dir=x"])
    return dataclasses.replace(config, tune=other.tune, tracking=other.tracking)


def test_it_is_seen_on_the_terminal_and_in_tensorboard(
    tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked again, a finished tuning is shown again and not run."""
    before = (tuned / "tune" / "trials.json").read_bytes()
    assert run([*COMMAND, str(tuned)]) == 0
    shown = capsys.readouterr().out
    assert "federation.learning_rate" in shown
    assert "spent no epsilon" in shown
    assert "use it: fedlite simulate 'experiment=" in shown
    assert (tuned / "tune" / "trials.json").read_bytes() == before
    for number in ("000", "001"):
        (events,) = (tuned / "tune" / "trials" / number).glob("events.out.tfevents*")
        assert b"10_tune_search/accuracy" in events.read_bytes()
        assert b"federation.learning_rate" in events.read_bytes()


def test_broken_off_it_says_how_to_go_on_and_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def federate(self: Trials, options: Any, fold: int, folder: Path) -> Classes:
        asked.append(fold)
        if len(asked) == 2:
            raise KeyboardInterrupt
        examples = np.load(Path(self.data_sets[fold].root) / self.data_sets[fold].files["data"])  # type: ignore[arg-type]
        return np.asarray(examples["labels_test"])

    monkeypatch.setattr(Trials, "federate", federate)
    folder = tmp_path / "broken off"
    assert run([*COMMAND, str(folder)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"go on with: fedlite tune 'run.dir={folder}'")
    assert run(["tune", str(folder)]) == 0
    assert asked == [0, 0, 0], "the first trial is not run again"


# Private rows


def npz(path: Path, private: Callable[[np.ndarray], np.ndarray]) -> list[str]:
    """The digits, with what ``private`` makes of every example that a client of the run holds."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs, labels = (digits.images / 16).astype(np.float32)[:, None], digits.target
    options = ["dataset=npz", f"dataset.root={path.parent}", f"dataset.files.data={path.name}"]
    options += [f"dataset.keys.{name}={name}" for name in ("inputs_train", "labels_train")]
    arrays = {"inputs_train": inputs, "labels_train": labels}
    np.savez(path, **arrays)
    splits = splits_of(compose_config(["run.dir=x", *QUICK[1:], *options]))
    rows = np.concatenate(splits._rows)
    changed = inputs.copy()
    changed[rows] = private(inputs[rows])
    np.savez(path, **{**arrays, "inputs_train": changed})
    return options


def federate_once(
    folder: Path,
    private: Callable[[np.ndarray], np.ndarray],
    trials: type[Trials] = Trials,
) -> Classes:
    """One trial of a run on such data."""
    folder.mkdir()
    options = npz(folder / "data.npz", private)
    config = compose_config([f"run.dir={folder / 'run'}", *QUICK[1:], *options])
    splits = splits_of(config)
    folds = public_folds(splits.public, splits.public_validation, 1, 0)
    made = trials.prepare(config, splits, folds, folder)
    return made.federate({"federation.learning_rate": 2.0}, 0, folder / "trial")


def same(inputs: np.ndarray) -> np.ndarray:
    return inputs


def destroyed(inputs: np.ndarray) -> np.ndarray:
    return np.full_like(inputs, 7.0) + np.arange(len(inputs), dtype=np.float32)[:, None, None, None]


class ReadsTheRunsData(Trials):
    """The planted bug: clients of a trial are those of the run."""

    def simulated_config(self, options: Any, fold: int, directory: Path) -> Config:
        config = super().simulated_config(options, fold, directory)
        return dataclasses.replace(config, dataset=self.config.dataset, seed=self.config.seed)


@pytest.mark.parametrize(("trials", "touched"), [(Trials, False), (ReadsTheRunsData, True)])
def test_private_rows_change_nothing(tmp_path: Path, trials: type[Trials], touched: bool) -> None:
    """Bit by bit: a trial's answers are the same whatever the clients of the run hold."""
    as_they_are = federate_once(tmp_path / "one", same, trials)
    destroyed_ = federate_once(tmp_path / "other", destroyed, trials)
    assert len(np.unique(as_they_are)) > 1, "a student that answers one class alone shows nothing"
    assert bool((as_they_are != destroyed_).any()) is touched


def test_the_ledgers_of_a_trial_are_gone_and_a_shared_folder_is_untouched(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    config = compose_config([f"run.dir={tmp_path / 'run'}", *QUICK, f"privacy.ledger_dir={shared}"])
    splits = splits_of(config)
    folds = public_folds(splits.public, splits.public_validation, 1, 0)
    trials = Trials.prepare(config, splits, folds, tmp_path)
    trials.federate({}, 0, tmp_path / "trial")
    assert not shared.exists()
    assert list(tmp_path.rglob("*.ledger*")) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["dataset.public_size=20"], "too few to tune on; 32 or more"),
        (
            ["partition=size", "partition.skew=square", "federation.num_clients=8"],
            "cannot be divided among 7 simulated clients",
        ),
        (["tune.trials=0"], "tune.trials=0: must be >= 1"),
        (["tune.learning_rate_factors=[0]"], "tune.learning_rate_factors=[0]: must hold"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_before_anything_is_trained(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run([*COMMAND, "tune.max_clients=null", *options, str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (folder / "tune" / "trials.json").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["privacy=aggregate"],
        ["privacy=client", "privacy.client.noise_multiplier=0.5", "federation.local_steps=2"],
        ["privacy=none", "federation=fedadam"],
    ],
    ids=["aggregate", "client", "none"],
)
def test_every_kind_of_privacy_is_federated(tmp_path: Path, options: list[str]) -> None:
    config = compose_config([f"run.dir={tmp_path / 'run'}", *QUICK, *options])
    splits = splits_of(config)
    folds = public_folds(splits.public, splits.public_validation, 1, 0)
    trials = Trials.prepare(config, splits, folds, tmp_path)
    answers = trials.federate({"federation.learning_rate": 0.1}, 1, tmp_path / "trial")
    assert answers.shape == (len(folds[1].validation),)
    assert (answers == folds[1].validation.labels.numpy()).any()
    assert not (tmp_path / "trial" / "run").exists()
