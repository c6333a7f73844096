"""Rule 1: the ledger belongs to the data and is charged before training, whatever happens after."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.cli import run
from fedlite.config import Config
from fedlite.errors import UsageError
from fedlite.federation.checkpoint import load_checkpoint
from fedlite.federation.node import claim_ledgers
from fedlite.privacy import Charge, Ledger, LedgerError
from fedlite.privacy.ledger import affordable
from tests.privacy.world import ClientWorld

BUDGET = {"budget": 8.0, "delta": 1e-5, "accountant": "rdp"}

KILLED_AFTER_TRAINING = """
import os, sys
from pathlib import Path
from fedlite.config_checks import config_from_json
from fedlite.federation import client_app
from tests.privacy.world import ClientWorld

client_app.trained_reply = lambda *_: os._exit(9)  # dies with the trained student in hand
world = ClientWorld(config_from_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
world.train(server_round=1)
"""


def charge(server_round: int, run: str = "a", noise_multiplier: float = 2.0) -> Charge:
    return Charge(run, server_round, noise_multiplier, sample_rate=0.1, steps=5)


def test_a_client_killed_after_training_has_been_charged(
    client_world: Callable[..., ClientWorld], tmp_path: Path
) -> None:
    world = client_world()
    (tmp_path / "config.json").write_text(world.config.to_json())
    command = [sys.executable, "-c", KILLED_AFTER_TRAINING, "config.json", "."]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    died = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert died.returncode == 9, died.stderr.decode()
    spent = world.ledger().epsilon(1e-5, "rdp")
    assert len(world.ledger().entries()) == 1
    assert spent > 0

    world.train(server_round=1)  # the interrupted round again: charged again, never refunded
    assert len(world.ledger().entries()) == 2
    assert world.ledger().epsilon(1e-5, "rdp") > spent


def test_an_identical_request_gets_the_stored_reply_and_no_second_charge(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world()
    first, second = world.train(server_round=1), world.train(server_round=1)
    for name, array in first.content.array_records["arrays"].items():
        assert array.data == second.content.array_records["arrays"][name].data
    assert len(world.ledger().entries()) == 1


def test_a_deterministic_replay_is_one_release(client_world: Callable[..., ClientWorld]) -> None:
    world = client_world("privacy.randomness=deterministic")
    first = world.train(server_round=1)
    for context in world.grid.contexts.values():
        context.state.clear()  # as after a kill: the reply is gone
    second = world.train(server_round=1)
    for name, array in first.content.array_records["arrays"].items():
        assert array.data == second.content.array_records["arrays"][name].data
    assert len(world.ledger().entries()) == 1


def test_epsilon_accumulates_over_rounds(client_world: Callable[..., ClientWorld]) -> None:
    world = client_world()
    epsilons = [
        float(str(world.train(server_round=r).content.config_records["report"]["epsilon"]))
        for r in (1, 2, 3)
    ]
    assert epsilons == sorted(epsilons)
    assert epsilons[0] < epsilons[1] < epsilons[2] <= 8.0


def test_a_second_run_on_a_shared_ledger_continues_the_spending(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "x.ledger", "x")
    ledger.charge(charge(1, run="a"), **BUDGET)
    again = Ledger(tmp_path / "x.ledger", "x").charge(charge(1, run="b"), **BUDGET)
    alone = Ledger(tmp_path / "y.ledger", "y").charge(charge(1, run="b"), **BUDGET)
    assert again.epsilon > alone.epsilon


def test_rdp_decides_once_a_ledger_holds_another_run() -> None:
    """A later run may have chosen its noise after seeing results; RDP composes adaptively."""
    prv = {**BUDGET, "accountant": "prv"}
    same = affordable([charge(1)], charge(2), **prv)
    other = affordable([charge(1, run="b")], charge(2), **prv)
    by_rdp = affordable([charge(1)], charge(2), **BUDGET)
    assert other.epsilon == by_rdp.epsilon > same.epsilon


def test_a_checkpoint_holds_no_ledger(tmp_path: Path, finished_run: Path) -> None:
    checkpoint = load_checkpoint(finished_run / "checkpoint.pt")
    for raw in checkpoint.contexts.values():
        assert b"noise_multiplier" not in raw
    assert len(list((finished_run / "ledgers").glob("*.ledger"))) == 4


@settings(max_examples=50, deadline=None)
@given(
    rounds=st.lists(st.tuples(st.integers(1, 50), st.sampled_from([1.0, 2.0, 8.0])), max_size=12)
)
def test_what_is_charged_is_read_back_and_never_passes_the_budget(
    rounds: list[tuple[int, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "x.ledger", "x")
    accepted = []
    for server_round, noise_multiplier in rounds:
        new = charge(server_round, noise_multiplier=noise_multiplier)
        before = ledger.epsilon(1e-5, "rdp")
        spending = ledger.charge(new, **BUDGET)
        accepted += [new] if spending.accepted else []
        assert ledger.entries() == accepted
        assert before <= ledger.epsilon(1e-5, "rdp") == spending.epsilon <= 8.0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "x.ledger", "x")
    for server_round in (1, 2, 3):
        ledger.charge(charge(server_round), **BUDGET)
    return ledger.path.read_bytes()


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_cut_off_last_line_is_dropped_and_charging_goes_on(
    data: st.DataObject, written: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    last_line = written[:-1].rfind(b"\n") + 1
    cut = data.draw(st.integers(last_line, len(written) - 1))
    path = tmp_path_factory.mktemp("ledger") / "x.ledger"
    path.write_bytes(written[:cut])
    ledger = Ledger(path, "x")
    assert ledger.entries() == [charge(1), charge(2)]
    ledger.charge(charge(4), **BUDGET)
    assert Ledger(path, "x").entries() == [charge(1), charge(2), charge(4)]


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_damaged_ledger_is_refused(
    data: st.DataObject, written: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    position = data.draw(st.integers(0, len(written) - 2))
    new_byte = data.draw(st.integers(0, 255).filter(lambda b: b != written[position]))
    damaged = bytearray(written)
    damaged[position] = new_byte
    path = tmp_path_factory.mktemp("ledger") / "x.ledger"
    path.write_bytes(bytes(damaged))
    try:
        same = Ledger(path, "x").entries() == [charge(1), charge(2), charge(3)]
    except LedgerError:
        return
    assert same, "a changed byte lost or altered a charge without an error"


def test_lines_cannot_be_removed_or_swapped(written: bytes, tmp_path: Path) -> None:
    lines = written.splitlines(keepends=True)
    for kept in ([0, 2, 3], [0, 1, 3], [0, 2, 1, 3]):
        path = tmp_path / "x.ledger"
        path.write_bytes(b"".join(lines[i] for i in kept))
        with pytest.raises(LedgerError, match="damaged"):
            Ledger(path, "x").entries()


def test_a_ledger_of_other_data_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path / "x.ledger", "x").charge(charge(1), **BUDGET)
    with pytest.raises(LedgerError, match="another data set"):
        Ledger(tmp_path / "x.ledger", "y").charge(charge(1), **BUDGET)


def test_a_ledger_that_cannot_be_written_charges_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="nothing was trained"):
        Ledger(tmp_path / "file" / "x.ledger", "x").charge(charge(1), **BUDGET)


def test_a_ledger_is_plain_text_that_a_person_can_read(written: bytes) -> None:
    header, first, *_ = [json.loads(line) for line in written.splitlines()]
    assert header["entry"]["data_set"] == "x"
    assert first["entry"] == {
        "run": "a", "round": 1, "noise_multiplier": 2.0, "sample_rate": 0.1, "steps": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"steps": -100}, {"steps": 0}, {"noise_multiplier": float("nan")}, {"sample_rate": 0.0}],
)
def test_a_request_that_would_give_budget_back_is_refused(
    change: dict[str, float], client_world: Callable[..., ClientWorld]
) -> None:
    world = client_world()
    world.train(1)
    spent = world.ledger().epsilon(1e-5, "rdp")
    refusal = world.train(2, **change)
    assert refusal.content.config_records["report"]["status"] == "refused"
    assert world.ledger().epsilon(1e-5, "rdp") == spent


def test_ledgers_of_another_division_or_a_missing_ledger_are_refused(
    tiny_config: Callable[..., Config], finished_run: Path, tmp_path: Path
) -> None:
    claim_ledgers(tmp_path, tiny_config())
    claim_ledgers(tmp_path, tiny_config())
    with pytest.raises(UsageError, match="other examples"):
        claim_ledgers(tmp_path, tiny_config("seed=1"))
    empty = shutil.copytree(finished_run, tmp_path / "copy")
    shutil.rmtree(empty / "ledgers")
    assert run(["report", f"run.dir={empty}"]) == 1
    assert run(["report", f"run.dir={finished_run}", f"privacy.ledger_dir={tmp_path}"]) == 2
