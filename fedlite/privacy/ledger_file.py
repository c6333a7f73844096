"""A ledger in a file of its own: what a device keeps beside its data.

Every charge is flushed to disk before training starts. What a process has verified or written it
remembers, and compares a hash of those bytes with the file's every time: so a charge parses a few
lines however long the ledger is, and whatever another process appended, damaged or put back is seen
(scripts/bench_ledger.py).
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fedlite.base.flush import flush
from fedlite.privacy.chain import (
    begin_files,
    check_in_place,
    check_reached,
    line_of,
    lock,
    opened,
    read_lines,
    whole_lines,
    write_line,
    written,
)
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import Ledger, LedgerError
from fedlite.privacy.marks import NOTHING, Mark, opened_mark, put_mark, read_mark

FORMAT = "fedlite-ledger-1"


@dataclass(frozen=True)
class _Verified:
    """The part of a ledger file that this process has parsed and found whole."""

    reached: Mark = NOTHING
    sha256: bytes = hashlib.sha256().digest()  # of its bytes
    charges: tuple[Charge, ...] = ()
    marked: bool = False  # begun with a mark


_verified: dict[tuple[Path, str], _Verified] = {}  # by file and data set id


class LedgerFile(Ledger):
    """The ledger file of one data set; the device that owns the data owns the file.

    Args:
        path: the file, which :func:`create_ledgers` has begun.
        data_set: the id of the data.
        sync: False leaves the flushing of charges to :func:`sync_ledgers`. For simulations alone,
            where a power cut takes server, clients and untold updates together: there one flush of
            a cohort stands for one of every charge, and takes a third of the time.
    """

    def __init__(self, path: Path, data_set: str, *, sync: bool = True) -> None:
        self.path = path
        self.data_set = data_set
        self.sync = sync

    def entries(self) -> list[Charge]:
        """See :meth:`Ledger.entries`."""
        # Both before the file, which may only grow.
        known, mark = self._remembered, read_mark(self.path)
        with opened(self.path, "rb") as file:
            return list(self._verify(file, file.read(), known, mark).charges)

    @contextmanager
    def _held(self) -> Iterator[tuple[Sequence[Charge], Callable[[Charge], None]]]:
        with opened(self.path, "r+b") as file:
            lock(self.path, file)
            raw = file.read()
            known = self._verify(file, raw, self._remembered, read_mark(self.path))
            before = raw[: known.reached.end]
            yield known.charges, lambda charge: self._append(file, charge, known, before)

    @property
    def _key(self) -> tuple[Path, str]:
        return (self.path.absolute(), self.data_set)

    @property
    def _remembered(self) -> _Verified:
        return _verified.get(self._key, _Verified())

    def _remember(self, state: _Verified) -> None:
        if (
            state.reached.end >= self._remembered.reached.end
        ):  # another thread may have charged meanwhile
            _verified[self._key] = state

    def _verify(
        self, file: IO[bytes], raw: bytes, known: _Verified, mark: Mark | None
    ) -> _Verified:
        """The whole lines of the file; only those that are new to this process are parsed."""
        reached = known.reached
        lines = whole_lines(self.path, raw)
        sha256 = hashlib.sha256(lines[: reached.end])
        if sha256.digest() != known.sha256:
            known, sha256 = _Verified(), hashlib.sha256()
        charges, marked = list(known.charges), known.marked

        def take(number: int, entry: dict[str, Any]) -> None:
            nonlocal marked
            if number > 1:
                charges.append(Charge(**entry))
                return
            marked = entry.pop("marked", None) is True
            if entry != self.header:
                raise LedgerError(
                    f"ledger {self.path}: belongs to another data set"
                    f" ({entry.get('data_set')!r} instead of {self.data_set!r})"
                )

        first = len(charges) + 2 if known.reached.end else 1
        new = lines[known.reached.end :]
        read_lines(self.path, new, known.reached.checksum, first, take)
        check_reached(self.path, file, reached, mark if marked else mark or NOTHING)
        sha256.update(new)
        found = _Verified(Mark.at(len(lines), lines), sha256.digest(), tuple(charges), marked)
        self._remember(found)
        return found

    @property
    def header(self) -> dict[str, str]:
        """The first entry of the file: whose it is. Beside it stands that there is a mark, which
        ledgers from before there were marks do not say."""
        return {"format": FORMAT, "data_set": self.data_set}

    def _append(self, file: IO[bytes], charge: Charge, known: _Verified, before: bytes) -> None:
        """Write the line after ``before``, mark it, and remember it."""
        line = line_of(known.reached.checksum, vars(charge))
        reached = Mark.at(len(before) + len(line), line)
        with opened_mark(self.path) as mark:  # first, since it may fail
            write_line(file, len(before), line)
            if self.sync:
                os.fsync(file.fileno())
                put_mark(mark, reached)
        sha256 = hashlib.sha256(before + line).digest()
        self._remember(_Verified(reached, sha256, (*known.charges, charge), known.marked))
        check_in_place(self.path, file)


def create_ledgers(ledgers: Iterable[LedgerFile]) -> None:
    """Begin new ledgers, each with its mark: the explicit step of their owner. They are on disk
    when it returns.

    Raises:
        LedgerError: there is one already, or the mark of one that was charged; or the disk cannot
            be written.
    """
    begin_files({one.path: line_of("", {**one.header, "marked": True}) for one in ledgers})


def data_set_of(path: Path) -> str:
    """The data set id in the first line of a ledger file; what follows is not looked at.

    Raises:
        LedgerError: no such line.
    """
    try:
        with path.open("rb") as file:
            return str(json.loads(file.readline())["entry"]["data_set"])
    except OSError as error:
        raise LedgerError(f"ledger {path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"ledger {path}: line 1 is damaged ({error})") from error


def sync_ledgers(paths: Iterable[Path]) -> None:
    """Flush the charges of one simulated cohort to disk, all at once, and mark how far they reach.

    For ledgers opened with ``sync=False``; call it before anything that the charged training
    produced outlives the processes.

    Raises:
        LedgerError: a ledger is missing, or the disk cannot be written.
    """
    with written("ledgers"):
        files = {path: path.read_bytes() for path in paths}
        flush(list(files))
        for path, raw in files.items():
            end = raw.rfind(b"\n") + 1
            with opened_mark(path) as mark:
                put_mark(mark, Mark.at(end, raw[:end]))
