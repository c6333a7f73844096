"""One seam, three ways to run the clients: the same bits in deterministic mode."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fedlite.base.errors import FedliteError
from fedlite.cli.main import run
from fedlite.federation.client_options import CLIENT_OPTIONS
from fedlite.federation.options import EngineOptions
from fedlite.federation.simulation import SIMULATION
from fedlite.federation.transport.engines import run_federation
from fedlite.privacy.ledger_folder import read_ledgers
from tests.conftest import TINY
from tests.federation.scripted import federation

DETERMINISTIC = (
    *TINY,
    "privacy.randomness=deterministic",
    "federation.fraction=0.75",
    "federation.local_steps=2",
    "federation=fedavgm",
    "tracking=quiet",
)


def written(folder: Path) -> dict[str, Any]:
    """What a federation wrote down."""
    facts: dict[str, Any] = json.loads((folder / "state.json").read_text())["stages"]["federate"]
    return facts


def federate(folder: Path, *options: str) -> dict[str, Any]:
    """Federate in ``folder``; what the run wrote down, less its times and memory."""
    assert run(["federate", *DETERMINISTIC, f"run.dir={folder}", *options]) == 0
    facts = written(folder)
    rounds = [{k: v for k, v in entry.items() if k != "seconds"} for entry in facts["history"]]
    return {"sha256": facts["sha256"], "evaluation": facts["evaluation"], "history": rounds}


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The run that all engines must repeat."""
    return federate(tmp_path_factory.mktemp("engines") / "run")


@pytest.mark.slow
def test_workers_give_the_same_bits(tmp_path: Path, in_process: dict[str, Any]) -> None:
    assert federate(tmp_path / "run", "engine.num_workers=2") == in_process
    if sys.platform == "linux":  # no other system tells
        memory = written(tmp_path / "run")["memory"]
        assert len(memory["worker_bytes"]) == 2
        assert max(memory["worker_bytes"]) < memory["fork_server_bytes"] < memory["process_bytes"]


@pytest.mark.slow
def test_workers_give_the_same_bits_on_a_fleet(tmp_path: Path) -> None:
    """Those who are away are not charged; those who are late, or leave, are."""
    leaving = [f"fleet.classes.phone_{kind}.dropout=0.5" for kind in ("fast", "middle", "slow")]
    found = [
        federate(tmp_path / str(workers), "fleet=phones", f"engine.num_workers={workers}", *leaving)
        for workers in (0, 2)
    ]
    assert found[0] == found[1]
    history = found[0]["history"]
    reached = sum(one["simulated"]["asked"] - one["simulated"]["away"] for one in history)
    charges = sum(map(len, read_ledgers(tmp_path / "0" / "ledgers").values()))
    assert sum(one["clients_trained"] for one in history) < charges == reached


@pytest.mark.slow
def test_ray_gives_the_same_bits(tmp_path: Path, in_process: dict[str, Any]) -> None:
    pytest.importorskip("ray", reason="the extra fedlite[ray] is not installed")
    assert federate(tmp_path / "run", "engine=ray", "engine.num_workers=2") == in_process
    assert set(written(tmp_path / "run").get("memory", {})) <= {"process_bytes"}


@pytest.mark.slow
def test_another_seed_gives_other_bits(tmp_path: Path, in_process: dict[str, Any]) -> None:
    """The comparisons above compare something."""
    assert federate(tmp_path / "run", "seed=1")["sha256"] != in_process["sha256"]


def test_the_user_of_a_simulation_is_told_why_its_clients_failed(tmp_path: Path) -> None:
    """No reply holds it: the engine adds it to what ends the run."""
    made = federation(tmp_path, 2)
    sent = {CLIENT_OPTIONS: "{}", SIMULATION: '{"seed": "many"}'}
    with pytest.raises(FedliteError) as refusal:
        run_federation(made, EngineOptions(), sent, tmp_path / "fedlite.log")
    assert str(refusal.value) == (
        "round 1: every client failed; a client could not take the teacher: client 0: failed:"
        " dataset: missing; give dataset=VALUE"
    )


def test_without_ray_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "ray" else find_spec(name, *rest),
    )
    options = (*TINY, "tracking=quiet", "engine=ray", f"run.dir={tmp_path / 'run'}")
    assert run(["federate", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "fedlite: engine=ray: Ray is not installed; pip install 'fedlite[ray]'"
