"""Rule 1, several processes: they spend one budget, wait for each other, and are killed."""

import fcntl
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedlite.privacy import chain
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.ledger import LedgerError
from tests.privacy.ledger_kinds import KINDS, NO_LIMIT, Kind, another_process, charge, over_both
from tests.privacy.planted import caught

CHARGES = """
import sys
from pathlib import Path
from tests.privacy.ledger_kinds import KINDS, charge

kind, path, budget = KINDS[int(sys.argv[1])], Path(sys.argv[2]), float(sys.argv[3])
for number in range(1, int(sys.argv[4]) + 1):
    spending = kind.at(path, sync=False).charge(
        charge(number, run=sys.argv[5]), budget=budget, delta=1e-5, accountant="rdp"
    )
    if spending.accepted:
        print(number, flush=True)
"""
ROUNDS = 12


def start(kind: Kind, path: Path, budget: float, rounds: int, run: str) -> "subprocess.Popen[str]":
    """A process that charges a ledger, and tells each charge when it is on record."""
    arguments = (str(KINDS.index(kind)), str(path), str(budget), str(rounds), run)
    return subprocess.Popen(
        [sys.executable, "-c", CHARGES, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    )


@over_both
def test_processes_at_once_overdraw_nothing_and_lose_no_charge(kind: Kind, tmp_path: Path) -> None:
    path = kind.begun(tmp_path / "x.ledger").path
    budget = compute_epsilon([charge(1).segment] * ROUNDS, 1e-5, "rdp") + 1e-9
    processes = [start(kind, path, budget, ROUNDS, run) for run in ("a", "a", "b")]
    accepted = sum(len(one.communicate()[0].split()) for one in processes)
    assert [one.returncode for one in processes] == [0, 0, 0]
    with another_process():
        assert len(kind.at(path).entries()) == accepted == ROUNDS
        assert kind.at(path).epsilon(1e-5, "rdp") <= budget


@over_both
@pytest.mark.parametrize("told", [1, 5])
def test_a_process_that_is_killed_has_charged_all_that_it_was_told(
    told: int, kind: Kind, tmp_path: Path
) -> None:
    path = kind.begun(tmp_path / "x.ledger").path
    process = start(kind, path, math.inf, 10_000, "a")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(told)]
    process.send_signal(signal.SIGKILL)
    lines += process.communicate()[0].splitlines(keepends=True)
    rounds = [int(line) for line in lines if line.endswith("\n")]
    kept = [entry.round for entry in kind.at(path).entries()]
    assert kept[: len(rounds)] == rounds
    assert len(kept) <= len(rounds) + 1  # one may have been charged and not told
    kind.at(path).charge(charge(1, run="b"), **NO_LIMIT)  # its lock died with it
    assert len(kind.at(path).entries()) == len(kept) + 1


@over_both
def test_charges_of_threads_at_once_are_all_kept(kind: Kind, tmp_path: Path) -> None:
    ledger = kind.begun(tmp_path / "x.ledger")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: ledger.charge(charge(i), **NO_LIMIT), range(1, 17)))
    assert sorted(entry.round for entry in ledger.entries()) == list(range(1, 17))


def check_nobody_charges_under_a_lock(kind: Kind, path: Path) -> None:
    """While somebody else holds it, longer than anybody waits."""
    ledger = kind.at(path)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = ""
        try:
            ledger.charge(charge(1), **NO_LIMIT)
        except LedgerError as error:
            said = str(error)
        assert said, "charged beside another"
        assert "another process has held its lock for 0 s; nothing was trained" in said
        assert "\n" not in said
        assert ledger.entries() == []  # reading waits for nobody


@over_both
def test_the_wait_for_a_lock_ends(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = kind.begun(tmp_path / "x.ledger")
    monkeypatch.setattr(chain, "LOCK_SECONDS", 0.0)
    check_nobody_charges_under_a_lock(kind, ledger.path)
    ledger.charge(charge(1), **NO_LIMIT)
    assert ledger.entries() == [charge(1)]


@over_both
def test_the_planted_bug_of_charging_without_the_lock_is_caught(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kind.begun(tmp_path / "x.ledger").path
    monkeypatch.setattr(chain, "LOCK_SECONDS", 0.0)
    monkeypatch.setattr(kind.module, "lock", lambda path, file: None)
    with caught("charged beside another"):
        check_nobody_charges_under_a_lock(kind, path)
