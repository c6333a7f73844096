"""Rule 1, marks: a ledger is put back to no earlier state, whatever becomes of its mark."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import LedgerError, affordable
from fedlite.privacy.ledger_file import LedgerFile
from fedlite.privacy.marks import NOTHING, mark_of, read_mark
from tests.privacy.ledger_kinds import NO_LIMIT, Kind, another_process, charge, over_both
from tests.privacy.planted import caught
from tests.privacy.test_rule_01_ledger_file import OLD_LEDGER


def unlink(mark: Path) -> None:
    mark.unlink(missing_ok=True)


def empty(mark: Path) -> None:
    mark.write_text("")


def damage(mark: Path) -> None:
    mark.write_text("twelve abc\n")


LOSSES = (unlink, empty, damage)


def check_an_earlier_state_is_refused(
    kind: Kind,
    path: Path,
    loss: Callable[[Path], None],
    *,
    kept: int,
    seen: bool,
    sync: bool = True,
) -> None:
    """The mark lost and the file put back to ``kept`` of 3 charges; ``seen``: by the process that
    charged them, which only ever charged."""
    ledger = kind.begun(path, sync=sync)
    for server_round in (1, 2, 3):
        ledger.charge(charge(server_round), **NO_LIMIT)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[: 1 + kept]))
    loss(mark_of(path))
    with nullcontext() if seen else another_process():
        said = ""
        try:
            ledger.charge(charge(4), **NO_LIMIT)
        except LedgerError as error:
            said = str(error)
    assert said, "an earlier state is taken"
    assert str(path) in said
    assert "\n" not in said


@over_both
@pytest.mark.parametrize("kept", [0, 2])
@pytest.mark.parametrize("seen", [True, False], ids=["same process", "another process"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_ledger_that_was_put_back_without_its_mark_is_refused(
    loss: Callable[[Path], None], seen: bool, kept: int, kind: Kind, tmp_path: Path
) -> None:
    check_an_earlier_state_is_refused(kind, tmp_path / "x.ledger", loss, kept=kept, seen=seen)


@over_both
def test_a_process_remembers_the_charge_that_it_just_wrote(kind: Kind, tmp_path: Path) -> None:
    check_an_earlier_state_is_refused(
        kind, tmp_path / "x.ledger", lambda mark: None, kept=2, seen=True, sync=False
    )


def nothing_written_is_remembered(kind: Kind, patch: pytest.MonkeyPatch) -> None:
    real = kind.reader._append

    def append(self: Any, *args: Any) -> None:
        memory = kind.module._verified
        real(self, *args)
        memory.clear()

    patch.setattr(kind.reader, "_append", append)


def no_mark_is_needed(kind: Kind, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kind.module, "read_mark", lambda path: read_mark(path) or NOTHING)


@over_both
@pytest.mark.parametrize(
    ("plant", "loss", "seen", "sync"),
    [
        (nothing_written_is_remembered, lambda mark: None, True, False),
        (no_mark_is_needed, unlink, False, True),
    ],
    ids=["memory", "mark"],
)
def test_planted_bugs_are_caught(
    plant: Callable[[Kind, pytest.MonkeyPatch], None],
    loss: Callable[[Path], None],
    seen: bool,
    sync: bool,
    kind: Kind,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(kind, monkeypatch)
    with caught("an earlier state is taken"):
        check_an_earlier_state_is_refused(
            kind, tmp_path / "x.ledger", loss, kept=2, seen=seen, sync=sync
        )


def test_a_ledger_from_before_marks_goes_on_without_one(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    path.write_text(OLD_LEDGER)
    LedgerFile(path, "x").charge(charge(2), **NO_LIMIT)
    mark_of(path).unlink()
    with another_process():
        assert LedgerFile(path, "x").entries() == [charge(1), charge(2)]


@over_both
def test_a_beginning_that_was_broken_off_goes_on(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    kind.begin(path)
    path.unlink()  # as if only the mark had been written; nothing was charged
    kind.begin(path)
    kind.at(path).charge(charge(1), **NO_LIMIT)
    path.unlink()
    with pytest.raises(LedgerError, match="was begun before"):
        kind.begin(path)


def test_a_mark_that_cannot_be_written_charges_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    path.write_text(OLD_LEDGER)
    mark_of(path).mkdir()
    with pytest.raises(LedgerError, match=r"cannot be written .*; nothing was trained"):
        LedgerFile(path, "x").charge(charge(2), **NO_LIMIT)
    assert path.read_text() == OLD_LEDGER


def test_rdp_decides_where_only_the_client_s_own_noise_differs() -> None:
    prv = {**NO_LIMIT, "accountant": "prv"}
    shared = Charge("a", 1, 2.0, 0.1, 1, trust="aggregate", client_noise_multiplier=0.5)
    alone = Charge("a", 2, 2.0, 0.1, 1)
    by_rdp = affordable([shared], alone, **NO_LIMIT)
    assert affordable([shared], alone, **prv).epsilon == by_rdp.epsilon
