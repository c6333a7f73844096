"""Killed at any point, a run goes on; deterministic runs end with the bits of an unbroken one."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedlite.base.tensors import load_tensors, state_sha256
from fedlite.cli.main import run
from fedlite.federation.checkpoint import load_checkpoint
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger_folder import read_ledgers
from tests.conftest import TINY
from tests.e2e.command import refusal, start, wait_for

OPTIONS = (
    *TINY,
    "federation=fedavgm",
    "federation.rounds=12",
    "federation.fraction=0.75",
    "privacy.accountant=rdp",
    "compress.recovery_steps=60",
    "compress.measure.runs=5",
)


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that two runs of the same options must agree on."""
    report = json.loads((folder / "report.json").read_text())
    onnx = sorted((folder / "models").glob("*.onnx"))
    board = EventAccumulator(str(folder)).Reload()
    return {
        "states": {
            name: state_sha256(load_tensors(folder / f"{name}.pt"))
            for name in ("teacher", "public_student", "federated_student")
        },
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in onnx},
        "accuracy": {name: model["accuracy"] for name, model in report["models"].items()},
        "units": report["privacy"]["units"],
        "traffic": report["traffic"],
        "board": {
            tag: {event.step: event.value for event in board.Scalars(tag)}
            for tag in ("1_how_good/accuracy", "5_baselines/accuracy_of_teacher")
        },
        "history": [
            {key: value for key, value in entry.items() if key != "seconds"}
            for entry in report["history"]
        ],
    }


def charged(folder: Path, client: int) -> list[Charge]:
    """The participations in the client's ledger."""
    return read_ledgers(folder / "ledgers").get(f"digits-client-{client:04d}", [])


def charges(folder: Path, client: int = 0) -> int:
    """How many participations the client's ledger holds."""
    return len(charged(folder, client))


def kill_when(folder: Path, file: str, *options: str) -> None:
    """Start or resume the run in another process and kill -9 it once ``file`` is there."""
    process = start("simulate", *options, f"run.dir={folder}", "run.resume=true")
    try:
        wait_for(process, (folder / file).exists, what=file)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_run_killed_in_every_stage_ends_with_the_bits_of_an_unbroken_one(tmp_path: Path) -> None:
    options = (*OPTIONS, "privacy.randomness=deterministic")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(["simulate", *options, f"run.dir={whole}"]) == 0

    kill_when(broken, "teacher.pt", *options)
    assert not (broken / "checkpoint.pt").exists()
    kill_when(broken, "checkpoint.pt")
    assert 1 <= load_checkpoint(broken / "checkpoint.pt").round < 12
    kill_when(broken, "models/pruned_student.pt")
    assert not (broken / "report.json").exists()
    assert run(["simulate", f"run.dir={broken}", "run.resume=true"]) == 0

    assert outcome(broken) == outcome(whole)
    expected = [charges(whole, client) for client in range(4)]
    assert [charges(broken, client) for client in range(4)] == expected


@pytest.mark.slow
def test_in_private_mode_an_interrupted_round_is_charged_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = [
        *TINY,
        f"run.dir={folder}",
        "federation.local_steps=30",
        "federation.max_participations=5",
        "privacy.accountant=rdp",
    ]
    process = start("federate", *options)
    try:
        # The first client of round 2 is charged and has yet to train; of the three others none,
        # some or all are charged by then.
        wait_for(process, lambda: charges(folder) == 2, what="a second charge")
    finally:
        process.kill()
        process.communicate()
    assert load_checkpoint(folder / "checkpoint.pt").round == 1
    assert run(["federate", f"run.dir={folder}"]) == 0
    stages = json.loads((folder / "state.json").read_text())["stages"]
    history, epsilons = stages["federate"]["history"], stages["federate"]["epsilons"]
    assert [entry["clients_trained"] for entry in history] == [4, 4, 4]
    assert charges(folder, 0) == 4
    for client, epsilon in enumerate(epsilons):
        segments = [charge.segment for charge in charged(folder, client)]
        assert len(segments) in (3, 4)
        assert epsilon == pytest.approx(compute_epsilon(segments, 1e-5, "rdp"))


def test_resume_starts_where_there_is_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert run(["teacher", *TINY, f"run.dir={folder}", "run.resume=true"]) == 0
    assert (folder / "teacher.pt").exists()


@pytest.fixture
def copied_run(tmp_path: Path, finished_run: Path) -> Path:
    """A finished run to play with."""
    copy = tmp_path / "run"
    shutil.copytree(finished_run, copy)
    return copy


def test_an_existing_run_is_not_overwritten(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (copied_run / "state.json").read_bytes()
    line = refusal(capsys, 2, "simulate", *TINY, f"run.dir={copied_run}")
    assert "holds a run already" in line
    assert "run.resume=true" in line
    assert (copied_run / "state.json").read_bytes() == before


def test_a_second_process_on_the_same_directory_is_refused(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(copied_run / ".lock"):
        line = refusal(capsys, 1, "report", f"run.dir={copied_run}")
    assert "another fedlite process" in line
    assert run(["report", f"run.dir={copied_run}"]) == 0


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("privacy.epsilon=4", "(privacy.epsilon=8 then, 4 now)"),
        ("federation.rounds=9", "(federation.rounds=3 then, 9 now)"),
        ("student=mlp", "student.name=cnn then, mlp now"),
        ("seed=3", "(seed=0 then, 3 now)"),
        ("privacy=none", "privacy.unit=example then, none now"),
    ],
)
def test_resuming_with_other_options_is_refused_and_forgotten(
    option: str, said: str, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = (copied_run / "overrides.json").read_text()
    config = (copied_run / "config.json").read_text()
    command = ("simulate", f"run.dir={copied_run}", "run.resume=true")
    line = refusal(capsys, 2, *command, option)
    assert f"run.dir={copied_run}: its federation was started with other options" in line
    assert said in line
    assert line.endswith(f"goes on with: fedlite simulate run.dir={copied_run} run.resume=true")
    assert (copied_run / "overrides.json").read_text() == overrides
    assert (copied_run / "config.json").read_text() == config


def test_a_finished_run_resumes_to_itself(copied_run: Path) -> None:
    before = outcome(copied_run)
    spent = [charges(copied_run, client) for client in range(4)]
    assert run(["simulate", f"run.dir={copied_run}", "run.resume=true"]) == 0
    assert outcome(copied_run) == before
    assert [charges(copied_run, client) for client in range(4)] == spent


def test_relative_paths_survive_another_working_directory(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").symlink_to(data_dir)
    (tmp_path / "elsewhere").mkdir()
    folder = tmp_path / "run"
    options = [
        *TINY[2:],
        "dataset=har",
        "dataset.root=data/uci_har",
        "partition=natural",
        "federation.rounds=1",
        "federation.fraction=0.1",
        "distill.warm_start.epochs=1",
        "teacher.epochs=1",
        "student=mlp",
        "privacy.accountant=rdp",
    ]
    monkeypatch.chdir(tmp_path)
    assert run(["federate", f"run.dir={folder}", *options]) == 0
    before = (folder / "state.json").read_bytes()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(["federate", f"run.dir={folder}"]) == 0
    assert (folder / "state.json").read_bytes() == before, "nothing was done again"
