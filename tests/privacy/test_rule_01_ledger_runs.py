"""Rule 1, whole runs: killed, resumed, repeated, and two at once on the same ledgers."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlite.base.errors import FedliteError, UsageError
from fedlite.cli.main import run
from fedlite.federation.ledgers import sync_cohort
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger_folder import read_ledgers
from fedlite.runs.config import Config
from tests.conftest import TINY
from tests.e2e.command import refusal
from tests.privacy.world import ClientWorld, held, into_files, ledger_of

LIMITS = {"budget": 8.0, "delta": 1e-5, "accountant": "rdp"}

KILLED_AFTER_TRAINING = """
import json, os, sys
from pathlib import Path
from fedlite.runs.config import config_from_plain
from fedlite.federation import client_app
from tests.privacy.world import ClientWorld, held

client_app.trained_reply = lambda *_: os._exit(9)  # dies with the trained student in hand
config = config_from_plain(json.loads(Path(sys.argv[1]).read_text()))
world = ClientWorld(config, Path(sys.argv[2]))
with held(config):
    world.train(server_round=1)
"""


def test_a_client_killed_after_training_has_been_charged(
    client_world: Callable[..., ClientWorld], tmp_path: Path
) -> None:
    world = client_world(f"privacy.ledger_dir={tmp_path / 'ledgers'}")
    (tmp_path / "config.json").write_text(json.dumps(world.config.to_plain()))
    command = [sys.executable, "-c", KILLED_AFTER_TRAINING, "config.json", "."]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    died = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert died.returncode == 9, died.stderr.decode()
    spent = world.ledger().epsilon(1e-5, "rdp")
    assert len(world.ledger().entries()) == 1
    assert spent > 0

    with held(world.config):  # the lock died with the process
        world.train(server_round=1)  # the interrupted round again: charged again
    assert len(world.ledger().entries()) == 2
    assert world.ledger().epsilon(1e-5, "rdp") > spent


def federate(run_dir: Path, *options: str) -> list[dict[str, int]]:
    """Run (or go on with) the rounds of a run; its history."""
    assert run(["federate", f"run.dir={run_dir}", *options]) == 0
    stages = json.loads((run_dir / "state.json").read_text())["stages"]
    history: list[dict[str, int]] = stages["federate"]["history"]
    return history


@pytest.mark.slow
def test_runs_on_shared_ledgers_spend_one_budget_and_are_refused_when_it_is_gone(
    tmp_path: Path,
) -> None:
    ledgers = tmp_path / "ledgers"
    options = (
        *TINY,
        f"privacy.ledger_dir={ledgers}",
        "privacy.accountant=rdp",
        "federation.max_participations=3",
    )
    first = federate(tmp_path / "first", *options, "federation.rounds=2")
    assert [entry["clients_trained"] for entry in first] == [4, 4]
    second = federate(tmp_path / "second", *options, "federation.rounds=3")
    assert [entry["clients_trained"] for entry in second] == [4, 0, 0]
    assert [entry["clients_refused"] for entry in second] == [0, 4, 4]

    spent = {path: path.read_bytes() for path in ledgers.glob("*.ledger*")}
    read = read_ledgers(ledgers)
    assert len(read) == 4
    for charges in read.values():
        assert len({charge.run for charge in charges}) == 2
        assert 7.5 < compute_epsilon([one.segment for one in charges], 1e-5, "rdp") <= 8

    for name in ("first", "second"):  # resumed once more, and once from before its last round
        federate(tmp_path / name)
        state = json.loads((tmp_path / name / "state.json").read_text())
        del state["stages"]["federate"]
        (tmp_path / name / "state.json").write_text(json.dumps(state))
        (tmp_path / name / "checkpoint.pt").unlink()
        assert all(entry["clients_trained"] == 0 for entry in federate(tmp_path / name))
    assert {path: path.read_bytes() for path in ledgers.glob("*.ledger*")} == spent


# --- two runs at once -----------------------------------------------------------------------


def test_two_runs_at_once_on_the_same_ledgers_are_refused(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config(f"privacy.ledger_dir={tmp_path / 'ledgers'}")
    with held(config):
        with pytest.raises(FedliteError, match=rf"{tmp_path / 'ledgers'}: another run"):
            held(config).__enter__()
        with held(tiny_config(), tmp_path / "a"), held(tiny_config(), tmp_path / "b"):
            pass  # each with ledgers of its own
    with held(config):
        pass


def test_ledgers_that_cannot_be_written_are_named_before_training(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    config = tiny_config(f"privacy.ledger_dir={tmp_path / 'file' / 'ledgers'}")
    with pytest.raises(FedliteError, match="nothing was trained"):
        held(config).__enter__()


# --- whose ledgers --------------------------------------------------------------------------


def test_ledgers_of_another_division_are_refused(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    shared = f"privacy.ledger_dir={tmp_path}"
    config = tiny_config(shared)
    with held(config):
        ledger_of(tmp_path, config, 0).charge(Charge("run", 1, 2.0, 0.1, 1), **LIMITS)
    for other in ("seed=1", "federation.num_clients=3", "partition=shards"):
        with pytest.raises(UsageError, match="other examples"):
            held(tiny_config(shared, other)).__enter__()
    with held(tiny_config(shared, "privacy.epsilon=2", "federation.rounds=9")):
        pass


def test_no_epsilon_is_reported_when_ledgers_are_missing_or_exchanged(
    finished_run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    assert run(["report", f"run.dir={copy}", f"privacy.ledger_dir={tmp_path}"]) == 2
    shutil.rmtree(copy / "ledgers")
    assert run(["report", f"run.dir={copy}"]) == 1


@pytest.mark.parametrize("kept", ["store", "files"])
def test_a_cohort_is_flushed_whoever_charged(
    kept: str, tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    with held(config, tmp_path):
        pass
    folder = tmp_path / "ledgers"
    if kept == "files":
        into_files(folder)
    ledger = ledger_of(folder, config, 2)
    ledger.charge(Charge("run", 1, 2.0, 0.1, 1), **LIMITS)
    flushed: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino) or fsync(fd))
    sync_cohort(folder, config.privacy, config.dataset.name, [1, 2, 3])
    assert ledger.path.stat().st_ino in flushed


def test_a_second_run_on_the_same_ledgers_is_refused_before_any_training(
    tiny_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = f"privacy.ledger_dir={tmp_path / 'ledgers'}"
    folder = tmp_path / "second"
    with held(tiny_config(shared)):
        line = refusal(capsys, 1, "federate", *TINY, f"run.dir={folder}", shared)
    assert str(tmp_path / "ledgers") in line
    assert not (folder / "teacher.pt").exists()
