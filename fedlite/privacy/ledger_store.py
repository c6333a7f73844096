"""The ledgers of all clients of a simulation in one file, which only grows.

As a ledger's own file, but every line names the client's data set, and the first line names all
that were begun: a run's files and flushes do not grow with its clients. All share one chain of
checksums, one mark and one lock. A power cut takes server, clients and untold updates together, so
one flush stands for the charges of a whole cohort; killed processes lose nothing either way.

The file is too long to be read for every charge. A process keeps what it has verified, reads on
from there, and refuses a file that does not reach so far with the same last line, whose checksum is
one of all lines before. A line that is changed further up decides nothing meanwhile: the flush that
comes before every checkpoint compares all of them, and whoever reads the ledgers does.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fedlite.privacy.chain import (
    begin_files,
    check_in_place,
    check_reached,
    line_of,
    lock,
    opened,
    read_lines,
    refusal,
    whole_lines,
    write_line,
)
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import Ledger, Spending, affordable
from fedlite.privacy.marks import NOTHING, Mark, opened_mark, put_mark, read_mark

FORMAT = "fedlite-ledgers-1"


@dataclass
class _Verified:
    """The lines of a store that a process has parsed and found whole.

    What a process remembers of a store changes under its lock alone.
    """

    reached: Mark = NOTHING
    sha256: Any = field(default_factory=hashlib.sha256)  # of the bytes up to there
    lines: int = 0
    charges: dict[str, list[Charge]] = field(default_factory=dict)  # by data set
    alike: dict[Charge, Charge] = field(default_factory=dict)  # a cohort's are: each is kept once

    def take_in(self, raw: bytes, charged: Iterable[tuple[str, Charge]]) -> None:
        """Remember whole lines. Whatever breaks off in between, no charge is forgotten: how far
        they reach comes last."""
        for data_set, charge in charged:
            self.charges[data_set].append(self.alike.setdefault(charge, charge))
        self.sha256.update(raw)
        self.lines += raw.count(b"\n")
        self.reached = Mark.at(self.reached.end + len(raw), raw) if raw else self.reached


_verified: dict[Path, _Verified] = {}  # by file


class LedgerStore:
    """The file of a simulation's ledgers, which :meth:`begin` has begun."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, data_sets: Iterable[str]) -> None:
        """Begin the ledgers of these data sets, all that the store will ever hold.

        Raises:
            LedgerError: it was begun before, or the disk cannot be written.
        """
        header = {"format": FORMAT, "data_sets": sorted(data_sets), "marked": True}
        begin_files({self.path: line_of("", header)})

    def ledger(self, data_set: str) -> "StoredLedger":
        """The ledger of one data set."""
        return StoredLedger(self, data_set)

    def entries(self) -> dict[str, list[Charge]]:
        """All charges in order, by data set. Reads every line; takes no lock and writes nothing.

        Raises:
            LedgerError: missing, empty, damaged, shorter than before, or unreadable.
        """
        return self._read_all().charges

    @contextmanager
    def held(self, data_set: str) -> Iterator[tuple[Sequence[Charge], Callable[[Charge], None]]]:
        """While no other process can charge: all charges of a data set, and what appends one.

        Raises:
            LedgerError: as :meth:`entries`, no ledger of that data set was begun, held by others
                for too long, or a disk that cannot be written.
        """
        with self._caught_up() as (file, known):
            history = known.charges.get(data_set)
            if history is None:
                raise refusal(self.path, f"no ledger of {data_set!r} was begun in it")
            yield tuple(history), lambda charge: self._append(file, known, data_set, charge)

    def flush(self) -> None:
        """Compare all lines with what is remembered, flush them to disk, and mark how far they
        reach; to be called before anything that charged training produced outlives the processes.

        Raises:
            LedgerError: as :meth:`held`.
        """
        with self._caught_up() as (file, known), opened_mark(self.path) as mark:
            file.seek(0)
            lines = file.read(known.reached.end)
            if hashlib.sha256(lines).digest() != known.sha256.digest():
                raise refusal(self.path, "lines that were there before are damaged")
            os.fsync(file.fileno())
            put_mark(mark, known.reached)

    @contextmanager
    def _caught_up(self) -> Iterator[tuple[IO[bytes], _Verified]]:
        """The file under its lock, and all of it verified; a process reads what was there when it
        began before others have to wait for it."""
        key = self.path.absolute()
        known = _verified.get(key) or _verified.setdefault(key, self._read_all())
        with opened(self.path, "r+b") as file:
            lock(self.path, file)
            check_reached(self.path, file, known.reached, read_mark(self.path))
            self._read_on(file, known)
            yield file, known

    def _read_all(self) -> _Verified:
        """Every line, verified; nothing of it is remembered."""
        # Both before the file, which may only grow.
        known, mark = _verified.get(self.path.absolute()), read_mark(self.path)
        with opened(self.path, "rb") as file:
            found = _Verified()
            self._read_on(file, found)
            check_reached(self.path, file, known.reached if known else NOTHING, mark)
        return found

    def _read_on(self, file: IO[bytes], known: _Verified) -> None:
        """Verify and take in the lines that follow ``known``: all of them or none."""
        file.seek(known.reached.end)
        raw = whole_lines(self.path, file.read(), known.reached.end)
        begun: dict[str, list[Charge]] = {}
        charged: list[tuple[str, Charge]] = []

        def take(number: int, entry: dict[str, Any]) -> None:
            if number == 1:
                if entry["format"] != FORMAT:
                    raise ValueError(f"format {entry['format']!r}")
                begun.update((data_set, []) for data_set in entry["data_sets"])
                return
            data_set = entry.pop("data_set")
            if data_set not in (known.charges or begun):
                raise ValueError(f"no ledger of {data_set!r} was begun")
            charged.append((data_set, Charge(**entry)))

        read_lines(self.path, raw, known.reached.checksum, known.lines + 1, take)
        known.charges.update(begun)
        known.take_in(raw, charged)

    def _append(self, file: IO[bytes], known: _Verified, data_set: str, charge: Charge) -> None:
        line = line_of(known.reached.checksum, {**vars(charge), "data_set": data_set})
        write_line(file, known.reached.end, line)
        known.take_in(line, [(data_set, charge)])
        check_in_place(self.path, file)


class StoredLedger(Ledger):
    """The ledger of one data set in a store."""

    def __init__(self, store: LedgerStore, data_set: str) -> None:
        self.store = store
        self.path = store.path
        self.data_set = data_set

    def entries(self) -> list[Charge]:
        """See :meth:`Ledger.entries`."""
        found = self.store.entries()
        if self.data_set not in found:
            raise refusal(self.path, f"no ledger of {self.data_set!r} was begun in it")
        return found[self.data_set]

    def _held(self) -> AbstractContextManager[tuple[Sequence[Charge], Callable[[Charge], None]]]:
        return self.store.held(self.data_set)

    def charge(
        self, charge: Charge, *, budget: float, delta: float, accountant: str, replay: bool = False
    ) -> Spending:
        """See :meth:`Ledger.charge`. The accounting, which may take seconds and is remembered, is
        done once before the lock is held, for all other clients wait for it."""
        with self._held() as (history, _):
            pass
        affordable(history, charge, budget=budget, delta=delta, accountant=accountant)
        return super().charge(
            charge, budget=budget, delta=delta, accountant=accountant, replay=replay
        )
