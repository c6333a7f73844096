"""Rule 1, the file: it only grows, is on disk before training, and shows every damage."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.privacy import ledger as ledger_module
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import (
    Ledger,
    LedgerError,
    affordable,
    create_ledgers,
    data_set_of,
    sync_ledgers,
)
from fedlite.privacy.marks import Mark, opened_mark, put_mark
from tests.privacy.planted import caught

BUDGET = {"budget": 8.0, "delta": 1e-5, "accountant": "rdp"}
NO_LIMIT = {**BUDGET, "budget": 1e9}

# Written before charges had a trust and the client's own noise: must stay readable.
OLD_LEDGER = (
    '{"entry": {"data_set": "x", "format": "fedlite-ledger-1"}, "sha256":'
    ' "72f0b01d5d56b18f4759f57a4775182dda5921c53948c7994e44db74c28abb10"}\n'
    '{"entry": {"noise_multiplier": 2.0, "round": 1, "run": "a", "sample_rate": 0.1, "steps": 5},'
    ' "sha256": "251e09c51ca006f273de3aba277144ba4533ae2acb22311a83b373b5aaa3b26b"}\n'
)


def charge(server_round: int, run: str = "a", noise_multiplier: float = 2.0) -> Charge:
    return Charge(run, server_round, noise_multiplier, sample_rate=0.1, steps=5)


def begun(path: Path, data_set: str = "x", *, sync: bool = True) -> Ledger:
    """A new ledger, as its owner begins it."""
    ledger = Ledger(path, data_set, sync=sync)
    create_ledgers([ledger])
    return ledger


@contextmanager
def another_process() -> Iterator[None]:
    """Inside, this process remembers nothing of any ledger."""
    kept = dict(ledger_module._verified)
    ledger_module._verified.clear()
    try:
        yield
    finally:
        ledger_module._verified.clear()
        ledger_module._verified.update(kept)


# --- spending -------------------------------------------------------------------------------


def test_a_second_run_on_a_shared_ledger_continues_the_spending(tmp_path: Path) -> None:
    begun(tmp_path / "x.ledger").charge(charge(1, run="a"), **BUDGET)
    again = Ledger(tmp_path / "x.ledger", "x").charge(charge(1, run="b"), **BUDGET)
    alone = begun(tmp_path / "y.ledger", "y").charge(charge(1, run="b"), **BUDGET)
    assert again.epsilon > alone.epsilon


def test_rdp_decides_once_a_ledger_holds_another_run() -> None:
    """A later run may have chosen its noise after seeing results; RDP composes adaptively."""
    prv = {**BUDGET, "accountant": "prv"}
    same = affordable([charge(1)], charge(2), **prv)
    other = affordable([charge(1, run="b")], charge(2), **prv)
    by_rdp = affordable([charge(1)], charge(2), **BUDGET)
    assert other.epsilon == by_rdp.epsilon > same.epsilon


@settings(max_examples=50)
@given(
    rounds=st.lists(st.tuples(st.integers(1, 50), st.sampled_from([1.0, 2.0, 8.0])), max_size=12)
)
def test_what_is_charged_is_read_back_and_never_passes_the_budget(
    rounds: list[tuple[int, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = begun(tmp_path_factory.mktemp("ledger") / "x.ledger")
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


def test_every_charge_and_every_new_directory_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    ledger = begun(tmp_path / "new" / "ledgers" / "x.ledger")
    check_charges_reach_the_disk(ledger, disk, tmp_path)
    simulated = begun(tmp_path / "other" / "ledgers" / "y.ledger", "y", sync=False)
    check_charges_reach_the_disk(
        simulated, disk, tmp_path, after=lambda: sync_ledgers([simulated.path])
    )


def test_the_planted_bugs_no_flush_and_no_flush_of_the_name_are_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    with caught("the charge is not on disk"):
        ledger = begun(tmp_path / "ledgers" / "x.ledger", sync=False)
        check_charges_reach_the_disk(ledger, disk, tmp_path)
    monkeypatch.setattr(ledger_module, "directories_to_flush", lambda folder: [folder])
    with caught("the name is not on disk"):
        ledger = begun(tmp_path / "new" / "ledgers" / "x.ledger")
        check_charges_reach_the_disk(ledger, disk, tmp_path)


def test_a_ledger_that_cannot_be_written_charges_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="nothing was trained"):
        Ledger(tmp_path / "file" / "x.ledger", "x").charge(charge(1), **BUDGET)


# --- damage ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    ledger = begun(tmp_path_factory.mktemp("ledger") / "x.ledger")
    for server_round in (1, 2, 3):
        ledger.charge(charge(server_round), **BUDGET)
    return ledger.path.read_bytes()


def lay(path: Path, content: bytes, header: bytes) -> None:
    """A ledger's file with the mark that it was begun with."""
    path.write_bytes(content)
    with opened_mark(path) as mark:
        put_mark(mark, len(header), header)


@settings(max_examples=80)
@given(data=st.data())
def test_a_cut_off_last_line_is_dropped_and_charging_goes_on(
    data: st.DataObject, written: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    last_line = written[:-1].rfind(b"\n") + 1
    cut = data.draw(st.integers(last_line, len(written) - 1))
    path = tmp_path_factory.mktemp("ledger") / "x.ledger"
    lay(path, written[:cut], written.splitlines(keepends=True)[0])
    ledger = Ledger(path, "x")
    assert ledger.entries() == [charge(1), charge(2)]
    ledger.charge(charge(4), **BUDGET)
    assert Ledger(path, "x").entries() == [charge(1), charge(2), charge(4)]


@settings(max_examples=120)
@given(data=st.data(), known=st.booleans())
def test_a_damaged_ledger_is_refused(
    data: st.DataObject,
    known: bool,
    written: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Also by a process that has read it whole (``known``)."""
    position = data.draw(st.integers(0, len(written) - 2))
    new_byte = data.draw(st.integers(0, 255).filter(lambda b: b != written[position]))
    damaged = bytearray(written)
    damaged[position] = new_byte
    path = tmp_path_factory.mktemp("ledger") / "x.ledger"
    lay(path, written, written.splitlines(keepends=True)[0])
    if known:
        assert len(Ledger(path, "x").entries()) == 3
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
    begun(tmp_path / "x.ledger").charge(charge(1), **BUDGET)
    with pytest.raises(LedgerError, match="another data set"):
        Ledger(tmp_path / "x.ledger", "y").charge(charge(1), **BUDGET)


# --- several processes, one ledger ----------------------------------------------------------

OPERATIONS = st.one_of(
    st.tuples(st.just("charge"), st.booleans()),
    st.tuples(st.just("cut off"), st.integers(1, 100)),
    st.tuples(st.just("damage"), st.integers(0, 10_000)),
    st.tuples(st.just("put back"), st.integers(1, 3)),
)


def check_memory_hides_nothing(path: Path, operations: list[tuple[str, int]]) -> None:
    """Two processes take turns; lines are cut off, damaged and put back between their charges."""
    begun(path)
    expected: list[Charge] = []
    for number, (operation, value) in enumerate(operations, 1):
        raw = path.read_bytes()
        if operation == "charge":
            if value:
                Ledger(path, "x").charge(charge(number), **NO_LIMIT)
            else:
                with another_process():
                    Ledger(path, "x").charge(charge(number), **NO_LIMIT)
            expected.append(charge(number))
        elif operation == "cut off" and expected:
            # The charge of another process, broken off in mid-write: it never counted.
            path.write_bytes(raw + raw.splitlines()[-1][:value])
        elif operation == "damage" and expected:
            position = value % (raw.rfind(b"\n", 0, -1))
            path.write_bytes(raw[:position] + b"\x00" + raw[position + 1 :])
            for attempt in (Ledger(path, "x").entries, _charge_once(path)):
                with pytest.raises(LedgerError):
                    attempt()
            path.write_bytes(raw)
        elif operation == "put back" and len(expected) >= value:
            assert Ledger(path, "x").entries() == expected
            lines = raw[: raw.rfind(b"\n") + 1].splitlines(keepends=True)
            path.write_bytes(b"".join(lines[:-value]))
            for attempt in (Ledger(path, "x").entries, _charge_once(path)):
                with pytest.raises(LedgerError, match="charges that were there before are gone"):
                    attempt()
            path.write_bytes(raw)
        assert Ledger(path, "x").entries() == expected, "what is remembered hides the file"
        with another_process():
            assert Ledger(path, "x").entries() == expected


@settings(max_examples=80)
@given(operations=st.lists(OPERATIONS, max_size=14))
def test_what_a_process_remembers_never_hides_what_the_file_says(
    operations: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_memory_hides_nothing(tmp_path_factory.mktemp("ledger") / "x.ledger", operations)


def test_the_planted_bug_of_trusting_the_memory_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Ledger._verify

    def trusting(
        self: Ledger, raw: bytes, known: ledger_module._Verified, mark: Mark | None
    ) -> ledger_module._Verified:
        return known if known.end and len(raw) >= known.end else real(self, raw, known, mark)

    monkeypatch.setattr(Ledger, "_verify", trusting)
    with caught("what is remembered hides the file"):
        check_memory_hides_nothing(tmp_path / "x.ledger", [("charge", True), ("charge", False)])


def _charge_once(path: Path) -> Callable[[], object]:
    return lambda: Ledger(path, "x").charge(charge(99), **NO_LIMIT)


def test_a_caller_cannot_change_what_is_remembered(tmp_path: Path) -> None:
    ledger = begun(tmp_path / "x.ledger")
    ledger.charge(charge(1), **BUDGET)
    ledger.entries().clear()
    assert ledger.entries() == [charge(1)]


# --- the format -----------------------------------------------------------------------------


def test_a_ledger_is_plain_text_that_a_person_can_read(written: bytes, tmp_path: Path) -> None:
    header, first, *_ = [json.loads(line) for line in written.splitlines()]
    assert header["entry"]["data_set"] == "x"
    assert first["entry"] == {
        "run": "a", "round": 1, "noise_multiplier": 2.0, "sample_rate": 0.1, "steps": 5,
        "trust": "local", "client_noise_multiplier": None,
    }  # fmt: skip
    (tmp_path / "x.ledger").write_bytes(written)
    assert data_set_of(tmp_path / "x.ledger") == "x"
    (tmp_path / "y.ledger").write_text("?\n")
    with pytest.raises(LedgerError, match="line 1 is damaged"):
        data_set_of(tmp_path / "y.ledger")


def test_ledgers_from_before_trust_was_written_down_stay_readable(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    path.write_text(OLD_LEDGER)
    ledger = Ledger(path, "x")
    assert ledger.entries() == [charge(1)]
    ledger.charge(charge(2), **BUDGET)
    assert path.read_text().startswith(OLD_LEDGER)
    with another_process():
        assert ledger.entries() == [charge(1), charge(2)]
