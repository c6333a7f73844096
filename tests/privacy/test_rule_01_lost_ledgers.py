"""Rule 1, lost ledgers: one that is gone, empty or shorter than before never renews a budget."""

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from fedlite.cli.main import run
from fedlite.privacy.chain import write_line
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import LedgerError
from fedlite.privacy.ledger_file import LedgerFile
from fedlite.privacy.marks import Mark, mark_of, read_mark
from fedlite.runs.config import Config
from fedlite.runs.splits import splits_of
from tests.e2e.command import refusal
from tests.federation.test_device import OPTIONS, policy_of
from tests.privacy.ledger_kinds import (
    NO_LIMIT,
    InFile,
    InStore,
    Kind,
    another_process,
    charge,
    over_both,
)
from tests.privacy.planted import caught
from tests.privacy.world import ClientWorld, into_files

# --- what can become of a file --------------------------------------------------------------


def lines(path: Path, count: int) -> bytes:
    return b"".join(path.read_bytes().splitlines(keepends=True)[:count])


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def put_back_as_new(path: Path) -> None:
    path.write_bytes(lines(path, 1))


def put_back_by_one_charge(path: Path) -> None:
    path.write_bytes(lines(path, 2))


def exchange_for_a_new_one(path: Path) -> None:
    was = path.read_bytes()
    mark_of(path).unlink()
    path.unlink()
    (InStore() if b'"data_sets"' in was else InFile()).begin(path)


def link_elsewhere(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def exchange_for_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def exchange_for_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


LOSSES = {
    loss.__name__: loss
    for loss in (
        delete,
        empty,
        cut_in_the_header,
        put_back_as_new,
        put_back_by_one_charge,
        link_elsewhere,
        link_to_nothing,
        exchange_for_a_folder,
        exchange_for_a_pipe,
    )
}


def look(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def check_a_loss_is_refused(
    kind: Kind, path: Path, loss: Callable[[Path], None], *, seen: bool
) -> None:
    """By reader, charge and ``ledger init``; ``seen``: in the process that charged it."""
    ledger = kind.begun(path)
    for server_round in (1, 2):
        ledger.charge(charge(server_round), **NO_LIMIT)
    loss(path)
    left = look(path.parent)
    with nullcontext() if seen else another_process():
        for attempt in (
            ledger.entries,
            lambda: ledger.charge(charge(3), **NO_LIMIT),
            lambda: kind.begin(path),
            ledger.entries,
        ):
            said = ""
            try:
                attempt()
            except LedgerError as error:
                said = str(error)
            assert said, "the budget begins anew"
            assert str(path) in said
            assert "\n" not in said
    assert look(path.parent) == left, "something was written"


@over_both
@pytest.mark.parametrize("seen", [True, False], ids=["same process", "another process"])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_lost_ledger_is_refused(
    loss: Callable[[Path], None], seen: bool, kind: Kind, tmp_path: Path
) -> None:
    check_a_loss_is_refused(kind, tmp_path / "x.ledger", loss, seen=seen)


@over_both
def test_the_process_that_saw_a_ledger_refuses_a_new_one_in_its_place(
    kind: Kind, tmp_path: Path
) -> None:
    check_a_loss_is_refused(kind, tmp_path / "x.ledger", exchange_for_a_new_one, seen=True)


def a_ledger_begins_itself(kind: Kind, patch: pytest.MonkeyPatch) -> None:
    """As before: what is missing or empty is a new ledger, also for a process that saw it."""
    real, real_mark = kind.module.opened, read_mark

    def begin_anew(path: Path) -> None:
        if not path.exists() or not path.read_bytes():
            for one in (path, mark_of(path)):
                one.unlink(missing_ok=True)
            kind.module._verified.clear()
            kind.begin(path)

    @contextmanager
    def opened(path: Path, mode: Any) -> Iterator[object]:
        begin_anew(path)
        with real(path, mode) as file:
            yield file

    def mark(path: Path) -> Mark | None:
        begin_anew(path)
        return real_mark(path)

    patch.setattr(kind.module, "opened", opened)
    patch.setattr(kind.module, "read_mark", mark)


def marks_are_not_looked_at(kind: Kind, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mark, "holds", lambda self, file: True)


@over_both
@pytest.mark.parametrize(
    ("plant", "loss"),
    [
        (a_ledger_begins_itself, delete),
        (a_ledger_begins_itself, empty),
        (marks_are_not_looked_at, put_back_as_new),
        (marks_are_not_looked_at, put_back_by_one_charge),
    ],
)
def test_planted_bugs_are_caught(
    plant: Callable[[Kind, pytest.MonkeyPatch], None],
    loss: Callable[[Path], None],
    kind: Kind,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(kind, monkeypatch)
    with caught("the budget begins anew"):
        check_a_loss_is_refused(kind, tmp_path / "x.ledger", loss, seen=False)


@over_both
def test_a_cohort_that_was_flushed_is_marked(kind: Kind, tmp_path: Path) -> None:
    ledger = kind.begun(tmp_path / "x.ledger", sync=False)
    ledger.charge(charge(1), **NO_LIMIT)
    assert mark_of(ledger.path).read_text().startswith(f"{len(lines(ledger.path, 1)):015d} ")
    kind.flush(ledger.path)
    put_back_as_new(ledger.path)
    with another_process(), pytest.raises(LedgerError, match="are gone"):
        ledger.entries()
    ledger.path.unlink()
    with pytest.raises(LedgerError, match=r"x\.ledger"):
        kind.flush(ledger.path)


# --- while it is charged --------------------------------------------------------------------


@over_both
def test_a_ledger_that_is_deleted_while_it_is_charged_trains_nothing(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = kind.begun(tmp_path / "x.ledger")
    ledger.charge(charge(1), **NO_LIMIT)
    kept = ledger.path.read_bytes()

    def and_delete(file: IO[bytes], end: int, line: bytes) -> None:
        write_line(file, end, line)
        ledger.path.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(kind.module, "write_line", and_delete)
        with pytest.raises(LedgerError, match=r"x\.ledger"):
            ledger.charge(charge(2), **NO_LIMIT)
    ledger.path.write_bytes(kept)
    with pytest.raises(LedgerError, match="are gone"):  # the second charge is remembered
        ledger.charge(charge(3), **NO_LIMIT)


@over_both
def test_a_full_disk_charges_nothing_and_loses_nothing(kind: Kind, tmp_path: Path) -> None:
    ledger = kind.begun(tmp_path / "x.ledger")
    ledger.charge(charge(1), **NO_LIMIT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.path.stat().st_size + 50, limits[1]))
    try:
        with pytest.raises(LedgerError, match=r"cannot be written .*; nothing was trained"):
            ledger.charge(charge(2), **NO_LIMIT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert ledger.entries() == [charge(1)]
    ledger.charge(charge(3), **NO_LIMIT)
    assert ledger.entries() == [charge(1), charge(3)]


# --- a device -------------------------------------------------------------------------------


def ward(folder: Path, config: Config) -> dict[str, str]:
    """A device's folder; its node config."""
    folder.mkdir()
    (folder / "policy.yaml").write_text(policy_of(splits_of(config).task))
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 17, (40, 1, 8, 8), dtype=np.uint8)
    np.savez(folder / "own.npz", inputs=inputs, labels=rng.integers(0, 10, 40))
    return {"policy": str(folder / "policy.yaml"), "data": "own.npz", "ledger-dir": "kept"}


def test_a_device_trains_once_its_owner_has_begun_its_ledger_and_while_it_is_there(
    tiny_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(*OPTIONS)
    node = ward(tmp_path / "ward", config)
    world = ClientWorld(config, tmp_path / "server", node, simulated=False)
    path = tmp_path / "ward" / "kept" / "ward-7.ledger"

    def trains(server_round: int) -> bool:
        (reply,) = world.grid.send_and_receive([world.request(server_round)])
        return not reply.has_error() and bool(reply.content.array_records)

    assert not trains(1)
    assert not path.exists(), "a device begins no ledger by itself"
    assert run(["ledger", "init", f"policy={node['policy']}", "ledger-dir=kept"]) == 0
    assert capsys.readouterr().out == (
        f"{path}: the ledger of ward-7, nothing spent; keep it with the data\n"
    )
    assert trains(1)
    for loss in (empty, delete):
        kept = path.read_bytes()
        loss(path)
        assert not trains(2), loss.__name__
        path.write_bytes(kept)
    assert trains(2)
    line = refusal(capsys, 1, "ledger", "init", f"policy={node['policy']}", "ledger-dir=kept")
    assert f"{path}: was begun before" in line
    assert len(LedgerFile(path, "ward-7").entries()) == 2


def test_what_is_wrong_with_an_init_is_named(
    tiny_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = f"policy={ward(tmp_path / 'ward', tiny_config())['policy']}"
    folder = f"ledger-dir={tmp_path}"
    for arguments in (
        [],
        [folder],
        ["data_set=x"],
        [policy, "data_set=x"],
        [policy, "again"],
    ):
        assert "policy=FILE" in refusal(capsys, 2, "ledger", "init", *arguments)
    assert "seed=1" in refusal(capsys, 2, "ledger", "init", policy, "seed=1")
    assert "none.yaml" in refusal(capsys, 2, "ledger", "init", f"policy={tmp_path}/none.yaml")
    assert "data_set=../x" in refusal(capsys, 2, "ledger", "init", "data_set=../x", folder)
    assert list(tmp_path.rglob("*.ledger*")) == []
    assert run(["ledger", "init", "data_set=x", folder]) == 0
    assert LedgerFile(tmp_path / "x.ledger", "x").entries() == []


# --- a simulation ---------------------------------------------------------------------------


def every_ledger(path: Path) -> None:
    shutil.rmtree(path.parent)


def the_division(path: Path) -> None:
    (path.parent / "division.json").unlink()


def one_charge_and_its_mark(path: Path) -> None:
    mark_of(path).unlink()
    put_back_by_one_charge(path)


@over_both
@pytest.mark.parametrize(
    "loss", [delete, empty, every_ledger, the_division, one_charge_and_its_mark]
)
def test_a_run_neither_reports_nor_goes_on_without_its_ledgers(
    loss: Callable[[Path], None],
    kind: Kind,
    finished_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = shutil.copytree(finished_run, tmp_path / "run")
    ledger = copy / "ledgers" / "clients.ledgers"
    if isinstance(kind, InFile):
        into_files(copy / "ledgers")
        ledger = copy / "ledgers" / "digits-client-0002.ledger"
    loss(ledger)
    state = json.loads((copy / "state.json").read_text())
    if loss in (delete, one_charge_and_its_mark):  # before its last round
        del state["stages"]["federate"]
        (copy / "state.json").write_text(json.dumps(state))
        line = refusal(capsys, 1, "federate", f"run.dir={copy}")
    else:
        line = refusal(capsys, 1, "report", f"run.dir={copy}")
    assert str(copy / "ledgers") in line
    assert "restore" in line or "until the file is whole again" in line
    if loss is delete:
        assert "is missing" in refusal(capsys, 1, "ledger", str(copy))


def test_a_server_ledger_that_was_lost_stops_the_run(tmp_path: Path) -> None:
    ledger = InFile().begun(tmp_path / "server.ledger", "digits-clients")
    made = Charge("run", 1, 1.0, 0.5, 1)
    assert ledger.charge(made, budget=9, delta=1e-3, accountant="pld").accepted
    empty(ledger.path)
    with pytest.raises(LedgerError, match="is empty"):
        ledger.charge(made, budget=9, delta=1e-3, accountant="pld")
