"""Rule 1, the file: it only grows, is on disk before training, and shows every damage."""

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.privacy import chain
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import Ledger, LedgerError, affordable
from fedlite.privacy.ledger_file import LedgerFile, data_set_of
from fedlite.privacy.ledger_store import LedgerStore
from fedlite.privacy.marks import Mark, opened_mark, put_mark
from tests.privacy.ledger_kinds import (
    BUDGET,
    NO_LIMIT,
    InFile,
    InStore,
    Kind,
    another_process,
    charge,
    over_both,
)
from tests.privacy.planted import Plant, caught

# Written before charges had a trust and the client's own noise: must stay readable.
OLD_LEDGER = (
    '{"entry": {"data_set": "x", "format": "fedlite-ledger-1"}, "sha256":'
    ' "72f0b01d5d56b18f4759f57a4775182dda5921c53948c7994e44db74c28abb10"}\n'
    '{"entry": {"noise_multiplier": 2.0, "round": 1, "run": "a", "sample_rate": 0.1, "steps": 5},'
    ' "sha256": "251e09c51ca006f273de3aba277144ba4533ae2acb22311a83b373b5aaa3b26b"}\n'
)


# --- spending -------------------------------------------------------------------------------


@over_both
def test_a_second_run_on_a_shared_ledger_continues_the_spending(kind: Kind, tmp_path: Path) -> None:
    kind.begun(tmp_path / "x.ledger").charge(charge(1, run="a"), **BUDGET)
    again = kind.at(tmp_path / "x.ledger").charge(charge(1, run="b"), **BUDGET)
    alone = kind.begun(tmp_path / "y.ledger", "y").charge(charge(1, run="b"), **BUDGET)
    assert again.epsilon > alone.epsilon


def test_rdp_decides_once_a_ledger_holds_another_run() -> None:
    """A later run may have chosen its noise after seeing results; RDP composes adaptively."""
    prv = {**BUDGET, "accountant": "prv"}
    same = affordable([charge(1)], charge(2), **prv)
    other = affordable([charge(1, run="b")], charge(2), **prv)
    by_rdp = affordable([charge(1)], charge(2), **BUDGET)
    assert other.epsilon == by_rdp.epsilon > same.epsilon


@over_both
@settings(max_examples=50)
@given(
    rounds=st.lists(st.tuples(st.integers(1, 50), st.sampled_from([1.0, 2.0, 8.0])), max_size=12)
)
def test_what_is_charged_is_read_back_and_never_passes_the_budget(
    rounds: list[tuple[int, float]], kind: Kind, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = kind.begun(tmp_path_factory.mktemp("ledger") / "x.ledger")
    accepted = []
    for server_round, noise_multiplier in rounds:
        new = charge(server_round, noise_multiplier=noise_multiplier)
        before = ledger.epsilon(1e-5, "rdp")
        spending = ledger.charge(new, **BUDGET)
        accepted += [new] if spending.accepted else []
        assert ledger.entries() == accepted
        assert before <= ledger.epsilon(1e-5, "rdp") == spending.epsilon <= 8.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 1.5}, "steps 1.5"),
        ({"noise_multiplier": float("inf")}, "noise multiplier inf"),
        ({"noise_multiplier": "2"}, "noise multiplier 2"),
        ({"sample_rate": 1.1}, "sample rate 1.1"),
        ({"round": "1"}, "round '1'"),
        ({"trust": "central"}, "trust 'central'"),
        ({"client_noise_multiplier": 0.0}, "client noise multiplier 0"),
        ({"client_noise_multiplier": float("nan")}, "client noise multiplier nan"),
        ({"client_noise_multiplier": 0.5}, "below the 2"),
    ],
    ids=str,
)
def test_a_charge_that_means_nothing_is_refused(change: dict[str, object], words: str) -> None:
    values = {"run": "a", "round": 1, "noise_multiplier": 2.0, "sample_rate": 0.1, "steps": 5}
    with pytest.raises(ValueError, match=words):
        Charge(**{**values, **change})  # type: ignore[arg-type]


def test_a_share_of_noise_is_kept_beside_the_claim() -> None:
    shared = Charge("a", 1, 2.0, 0.1, 1, trust="aggregate", client_noise_multiplier=0.5)
    assert shared.segment == (2.0, 0.1, 1)
    assert shared.local_segment == (0.5, 0.1, 1)
    assert charge(1).local_segment == charge(1).segment


# --- on disk before training ----------------------------------------------------------------


class Disk:
    """What has been flushed: the size of every file, and every directory, by inode."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.flushed: dict[int, int] = {}
        fsync = os.fsync

        def spy(descriptor: int) -> None:
            fsync(descriptor)
            found = os.fstat(descriptor)
            self.flushed[found.st_ino] = found.st_size

        patch.setattr(os, "fsync", spy)

    def check_holds(self, path: Path) -> None:
        found = path.stat()
        assert self.flushed.get(found.st_ino) == found.st_size, "the charge is not on disk"

    def check_knows(self, path: Path, top: Path) -> None:
        """The file's name is in its directory, that one's in the next, up to ``top``."""
        for directory in path.parents:
            assert directory.stat().st_ino in self.flushed, "the name is not on disk"
            if directory == top:
                return


def check_charges_reach_the_disk(
    ledger: Ledger, disk: Disk, top: Path, after: Callable[[], None] = lambda: None
) -> None:
    for server_round in (1, 2, 3):
        ledger.charge(charge(server_round), **NO_LIMIT)
        after()
        disk.check_holds(ledger.path)
    disk.check_knows(ledger.path, top)


@over_both
def test_every_charge_and_every_new_directory_is_flushed(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    ledger = kind.begun(tmp_path / "new" / "ledgers" / "x.ledger")
    check_charges_reach_the_disk(ledger, disk, tmp_path)
    simulated = kind.begun(tmp_path / "other" / "ledgers" / "y.ledger", "y", sync=False)
    check_charges_reach_the_disk(
        simulated, disk, tmp_path, after=lambda: kind.flush(simulated.path)
    )


@over_both
def test_the_planted_bugs_no_flush_and_no_flush_of_the_name_are_caught(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    with caught("the charge is not on disk"):
        ledger = kind.begun(tmp_path / "ledgers" / "x.ledger", sync=False)
        check_charges_reach_the_disk(ledger, disk, tmp_path)
    monkeypatch.setattr(chain, "directories_to_flush", lambda folder: [folder])
    with caught("the name is not on disk"):
        ledger = kind.begun(tmp_path / "new" / "ledgers" / "x.ledger")
        check_charges_reach_the_disk(ledger, disk, tmp_path)


@over_both
def test_a_ledger_that_cannot_be_written_charges_nothing(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="nothing was trained"):
        kind.at(tmp_path / "file" / "x.ledger").charge(charge(1), **BUDGET)


# --- damage ---------------------------------------------------------------------------------


@cache
def written(kind: Kind) -> bytes:
    """A ledger of three charges."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = kind.begun(Path(folder) / "x.ledger")
        for server_round in (1, 2, 3):
            ledger.charge(charge(server_round), **BUDGET)
        return ledger.path.read_bytes()


def lay(path: Path, content: bytes) -> None:
    """A ledger's file with the mark that it was begun with."""
    path.write_bytes(content)
    header = content.splitlines(keepends=True)[0]
    with opened_mark(path) as mark:
        put_mark(mark, Mark.at(len(header), header))


@over_both
@settings(max_examples=80)
@given(data=st.data())
def test_a_cut_off_last_line_is_dropped_and_charging_goes_on(
    data: st.DataObject, kind: Kind, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = written(kind)
    cut = data.draw(st.integers(raw[:-1].rfind(b"\n") + 1, len(raw) - 1))
    path = tmp_path_factory.mktemp("ledger") / "x.ledger"
    lay(path, raw[:cut])
    ledger = kind.at(path)
    assert ledger.entries() == [charge(1), charge(2)]
    ledger.charge(charge(4), **BUDGET)
    assert kind.at(path).entries() == [charge(1), charge(2), charge(4)]


@over_both
@settings(max_examples=120)
@given(data=st.data(), known=st.booleans())
def test_a_damaged_ledger_is_refused(
    data: st.DataObject, known: bool, kind: Kind, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also by a process that has read it whole (``known``)."""
    raw = written(kind)
    position = data.draw(st.integers(0, len(raw) - 2))
    new_byte = data.draw(st.integers(0, 255).filter(lambda b: b != raw[position]))
    damaged = bytearray(raw)
    damaged[position] = new_byte
    path = tmp_path_factory.mktemp("ledger") / "x.ledger"
    lay(path, raw)
    if known:
        kind.flush(path)
        assert len(kind.at(path).entries()) == 3
    path.write_bytes(bytes(damaged))
    try:
        same = kind.at(path).entries() == [charge(1), charge(2), charge(3)]
    except LedgerError:
        return
    assert same, "a changed byte lost or altered a charge without an error"


@over_both
def test_lines_cannot_be_removed_or_swapped(kind: Kind, tmp_path: Path) -> None:
    lines = written(kind).splitlines(keepends=True)
    for kept in ([0, 2, 3], [0, 1, 3], [0, 2, 1, 3]):
        path = tmp_path / "x.ledger"
        path.write_bytes(b"".join(lines[i] for i in kept))
        with pytest.raises(LedgerError, match="damaged"):
            kind.at(path).entries()


def test_a_ledger_of_other_data_is_refused(tmp_path: Path) -> None:
    InFile().begun(tmp_path / "x.ledger").charge(charge(1), **BUDGET)
    with pytest.raises(LedgerError, match="another data set"):
        LedgerFile(tmp_path / "x.ledger", "y").charge(charge(1), **BUDGET)
    store = InStore().begun(tmp_path / "store").path
    for attempt in (
        InStore().at(store, "z").entries,
        lambda: InStore().at(store, "z").charge(charge(1), **BUDGET),
    ):
        with pytest.raises(LedgerError, match="no ledger of 'z' was begun"):
            attempt()
    with pytest.raises(LedgerError, match="line 1 is damaged"):
        InStore().at(tmp_path / "x.ledger").entries()
    with pytest.raises(LedgerError, match="belongs to another data set"):
        LedgerFile(store, "x").entries()


# --- several processes, one ledger ----------------------------------------------------------

OPERATIONS = st.one_of(
    st.tuples(st.just("charge"), st.booleans()),
    st.tuples(st.just("cut off"), st.integers(1, 100)),
    st.tuples(st.just("damage"), st.integers(0, 10_000)),
    st.tuples(st.just("put back"), st.integers(1, 3)),
)


def check_memory_hides_nothing(kind: Kind, path: Path, operations: list[tuple[str, int]]) -> None:
    """Two processes take turns; lines are cut off, damaged and put back between their charges."""
    kind.begun(path)
    expected: list[Charge] = []
    for number, (operation, value) in enumerate(operations, 1):
        raw = path.read_bytes()
        if operation == "charge":
            try:
                with nullcontext() if value else another_process():
                    kind.at(path).charge(charge(number), **NO_LIMIT)
            except LedgerError as error:
                raise AssertionError("what is remembered hides the file") from error
            expected.append(charge(number))
        elif operation == "cut off" and expected:
            # The charge of another process, broken off in mid-write: it never counted.
            path.write_bytes(raw + raw.splitlines()[-1][:value])
        elif operation == "damage" and expected:
            position = value % (raw.rfind(b"\n", 0, -1))
            path.write_bytes(raw[:position] + b"\x00" + raw[position + 1 :])
            for attempt in kind.notices(path):
                with pytest.raises(LedgerError):
                    attempt()
            path.write_bytes(raw)
        elif operation == "put back" and len(expected) >= value:
            assert kind.at(path).entries() == expected
            lines = raw[: raw.rfind(b"\n") + 1].splitlines(keepends=True)
            path.write_bytes(b"".join(lines[:-value]))
            for attempt in (kind.at(path).entries, _charge_once(kind, path)):
                with pytest.raises(LedgerError, match="charges that were there before are gone"):
                    attempt()
            path.write_bytes(raw)
        assert kind.at(path).entries() == expected, "what is remembered hides the file"
        with another_process():
            assert kind.at(path).entries() == expected


@over_both
@settings(max_examples=80)
@given(operations=st.lists(OPERATIONS, max_size=14))
def test_what_a_process_remembers_never_hides_what_the_file_says(
    kind: Kind, operations: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_memory_hides_nothing(kind, tmp_path_factory.mktemp("ledger") / "x.ledger", operations)


TWO_PROCESSES = [("charge", True), ("charge", False), ("charge", True)]


def file_memory_is_trusted(patch: pytest.MonkeyPatch) -> None:
    real = LedgerFile._verify

    def trusting(
        self: LedgerFile, file: IO[bytes], raw: bytes, known: Any, mark: Mark | None
    ) -> Any:
        trusted = known.reached.end and len(raw) >= known.reached.end
        return known if trusted else real(self, file, raw, known, mark)

    patch.setattr(LedgerFile, "_verify", trusting)


def store_memory_is_trusted(patch: pytest.MonkeyPatch) -> None:
    real = LedgerStore._read_on

    def trusting(self: LedgerStore, file: IO[bytes], known: Any) -> None:
        if not known.reached.end:
            real(self, file, known)

    patch.setattr(LedgerStore, "_read_on", trusting)


@pytest.mark.parametrize(
    ("kind", "plant"),
    [(InFile(), file_memory_is_trusted), (InStore(), store_memory_is_trusted)],
    ids=["file", "store"],
)
def test_the_planted_bug_of_trusting_the_memory_is_caught(
    kind: Kind, plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with caught("what is remembered hides the file"):
        check_memory_hides_nothing(kind, tmp_path / "x.ledger", TWO_PROCESSES)


def _charge_once(kind: Kind, path: Path) -> Callable[[], object]:
    return lambda: kind.at(path).charge(charge(99), **NO_LIMIT)


@over_both
def test_a_caller_cannot_change_what_is_remembered(kind: Kind, tmp_path: Path) -> None:
    ledger = kind.begun(tmp_path / "x.ledger")
    ledger.charge(charge(1), **BUDGET)
    ledger.entries().clear()
    assert ledger.entries() == [charge(1)]


# --- the format -----------------------------------------------------------------------------


@over_both
def test_a_ledger_is_plain_text_that_a_person_can_read(kind: Kind) -> None:
    header, first, *_ = [json.loads(line)["entry"] for line in written(kind).splitlines()]
    named = {"data_set": "x"} if isinstance(kind, InStore) else {}
    assert header["data_sets" if named else "data_set"] == (["v", "w", "x", "y"] if named else "x")
    assert first == {
        "run": "a", "round": 1, "noise_multiplier": 2.0, "sample_rate": 0.1, "steps": 5,
        "trust": "local", "client_noise_multiplier": None, **named,
    }  # fmt: skip


def test_a_file_says_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.ledger").write_bytes(written(InFile()))
    assert data_set_of(tmp_path / "x.ledger") == "x"
    (tmp_path / "y.ledger").write_text("?\n")
    with pytest.raises(LedgerError, match="line 1 is damaged"):
        data_set_of(tmp_path / "y.ledger")


def test_ledgers_from_before_trust_was_written_down_stay_readable(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    path.write_text(OLD_LEDGER)
    ledger = LedgerFile(path, "x")
    assert ledger.entries() == [charge(1)]
    ledger.charge(charge(2), **BUDGET)
    assert path.read_text().startswith(OLD_LEDGER)
    with another_process():
        assert ledger.entries() == [charge(1), charge(2)]
