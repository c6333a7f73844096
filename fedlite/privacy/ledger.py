"""The ledger: what one data set has spent, in an append-only file that only grows.

One file per data set, one JSON line per charge. Its owner begins it, once (:func:`create_ledgers`);
from then on a ledger that is missing, empty or shorter than before is refused, for with it the
budget would begin anew. A charge is on disk (fsync) before training starts; nothing here can
refund, overwrite or restore. A last line without its line end is a charge that was cut off before
training began: it is dropped and the file goes on.

Three things notice accidents. Each line carries a checksum, a SHA-256 over its content and the
checksum before, which shows changed, reordered and missing lines. Beside the file lies a mark of
how far it reached, which shows last lines that were cut off, and an older copy put back. What a
process has verified or written it remembers, and compares a hash of those bytes with the file's
every time: so a charge parses a few lines however long the ledger is, and whatever another process
appended, damaged or put back is seen (scripts/bench_ledger.py). None of them holds against an owner
who forges his own file: there is no secret in it that he would not know.
"""

import errno
import fcntl
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fedlite.base.errors import FedliteError
from fedlite.base.flush import directories_to_flush, flush
from fedlite.privacy.accounting import Segment, compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.marks import MARKED, Mark, mark_of, opened_mark, put_mark, read_mark

FORMAT = "fedlite-ledger-1"
SERVER_LEDGER = "server.ledger"  # of client-level releases, beside those of the clients


class LedgerError(FedliteError):
    """A ledger that is damaged, belongs to other data, or cannot be written."""


@dataclass(frozen=True)
class Spending:
    """The answer to a charge: whether it stands, and the epsilon spent with (or without) it."""

    accepted: bool
    epsilon: float
    reason: str = ""


def affordable(
    history: Sequence[Charge], charge: Charge, *, budget: float, delta: float, accountant: str
) -> Spending:
    """Whether ``charge`` after ``history`` stays within ``budget`` (a pure function).

    The plan's accountant decides as long as the ledger holds one plan alone. As soon as it holds
    another run, or other noise under the same run's name, RDP decides: what came later may have
    been chosen after seeing results, and RDP composes under adaptive choice (Feldman and Zrnic
    2021).
    """
    by = fitting_accountant([*history, charge], accountant)
    spent = segments(history, charge.trust)
    after = compute_epsilon([*spent, charge.segment], delta, by)
    if after <= budget and math.isfinite(after):
        return Spending(accepted=True, epsilon=after)
    before = compute_epsilon(spent, delta, by)
    reason = (
        f"epsilon {after:.3f} after this round would exceed the budget {budget:g}"
        f" (spent {before:.3f}, accountant {by})"
    )
    return Spending(accepted=False, epsilon=before, reason=reason)


def segments(history: Iterable[Charge], trust: str) -> list[Segment]:
    """The charges as a claim under ``trust`` must count them.

    A local claim holds against who sees single updates: what was charged for sums counts there
    with the noise of one client alone.
    """
    if trust == "local":
        return [entry.local_segment for entry in history]
    return [entry.segment for entry in history]


def fitting_accountant(history: Sequence[Charge], planned: str) -> str:
    """``planned`` where one run charged one plan alone, else rdp."""
    plans = {(entry.run, entry.segment, entry.local_segment) for entry in history}
    return planned if len(plans) <= 1 else "rdp"


@dataclass(frozen=True)
class _Verified:
    """The part of a ledger file that this process has parsed and found whole."""

    end: int = 0  # bytes
    sha256: bytes = hashlib.sha256().digest()  # of those bytes
    checksum: str = ""  # of the last line
    charges: tuple[Charge, ...] = ()
    marked: bool = False  # begun with a mark


_verified: dict[tuple[Path, str], _Verified] = {}  # by file and data set id


class Ledger:
    """The ledger file of one data set; the device that owns the data owns the file.

    Args:
        path: the file, which :func:`create_ledgers` has begun. What holds the data alone decides
            about it, so neither a link to another place nor anything but a file is taken for it.
        data_set: the id the device's policy gave its data (never a content hash).
        sync: False leaves the flushing of charges to :func:`sync_ledgers`. For simulations alone,
            where a power cut takes server, clients and untold updates together: there one flush of
            a cohort stands for one of every charge, and takes a third of the time.
    """

    def __init__(self, path: Path, data_set: str, *, sync: bool = True) -> None:
        self.path = path
        self.data_set = data_set
        self.sync = sync

    def entries(self) -> list[Charge]:
        """All charges in order. Reads only: takes no lock and writes nothing.

        Raises:
            LedgerError: missing, empty, damaged, shorter than before, of another data set, or
                unreadable.
        """
        # Both before the file, which may only grow.
        known, mark = self._remembered, read_mark(self.path)
        with self._opened("rb") as file:
            return list(self._verify(file.read(), known, mark).charges)

    def epsilon(self, delta: float, accountant: str) -> float:
        """Epsilon of everything charged so far, towards those who see what was charged for."""
        return compute_epsilon([c.segment for c in self.entries()], delta, accountant)

    def charge(
        self, charge: Charge, *, budget: float, delta: float, accountant: str, replay: bool = False
    ) -> Spending:
        """Append ``charge`` and flush it to disk if the budget allows; otherwise write nothing.

        Whatever is killed afterwards, the charge stays. All that can fail comes before it.

        Args:
            replay: deterministic mode, where a repeated (run, round) is the same release and is
                charged once. Never set it when noise is fresh.

        Raises:
            LedgerError: as :meth:`entries`, or a disk that cannot be written.
        """
        with self._opened("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # ends with the file, and with the process
            raw = file.read()
            known = self._verify(raw, self._remembered, read_mark(self.path))
            history = known.charges
            if replay and any((e.run, e.round) == (charge.run, charge.round) for e in history):
                spent = compute_epsilon(segments(history, charge.trust), delta, accountant)
                return Spending(accepted=True, epsilon=spent)
            spending = affordable(
                history, charge, budget=budget, delta=delta, accountant=accountant
            )
            if spending.accepted:
                self._append(file, charge, known, raw[: known.end])
            return spending

    @contextmanager
    def _opened(self, mode: str) -> Iterator[IO[bytes]]:
        """The file itself, of which a charge holds the lock."""
        access = os.O_RDONLY if mode == "rb" else os.O_RDWR
        try:
            # A FIFO must not block; what is no file is refused below.
            descriptor = os.open(self.path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise self._refusal("is no regular file")
            with os.fdopen(descriptor, mode) as file:
                yield file
        except FileNotFoundError as error:
            raise self._refusal(
                "is missing; whoever owns new data begins their ledger once, with"
                " `fedlite ledger init` (docs/device-policy.md), a simulation with its start"
            ) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._refusal("is a link to another place") from error
            done = "read" if mode == "rb" else "written"
            raise LedgerError(
                f"ledger {self.path}: cannot be {done} ({error.strerror or error}); nothing was"
                " trained"
            ) from error

    @property
    def _key(self) -> tuple[Path, str]:
        return (self.path.absolute(), self.data_set)

    @property
    def _remembered(self) -> _Verified:
        return _verified.get(self._key, _Verified())

    def _remember(self, state: _Verified) -> None:
        if state.end >= self._remembered.end:  # another thread may have charged meanwhile
            _verified[self._key] = state

    def _verify(self, raw: bytes, known: _Verified, mark: Mark | None) -> _Verified:
        """The whole lines of the file; only those that are new to this process are parsed."""
        last = known
        end = raw.rfind(b"\n") + 1
        if end == 0:
            raise self._refusal("is empty or cut off in its first line")
        sha256 = hashlib.sha256(raw[: known.end])
        if sha256.digest() != known.sha256:
            known, sha256 = _Verified(), hashlib.sha256()
        checksum, charges, marked = known.checksum, list(known.charges), known.marked
        new_lines = raw[known.end : end].decode(errors="replace").splitlines()
        for number, line in enumerate(new_lines, len(charges) + 2 if checksum else 1):
            try:
                record = json.loads(line)
                body, said = record["entry"], record["sha256"]
                checksum = _checksum(checksum, body)
                if number == 1:
                    marked = body.pop("marked", None) is True
                if number == 1 and body != self.header:
                    raise LedgerError(
                        f"ledger {self.path}: belongs to another data set"
                        f" ({body.get('data_set')!r} instead of {self.data_set!r})"
                    )
                if number > 1:
                    charges.append(Charge(**body))
                if said != checksum:
                    raise ValueError("checksum differs")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._refusal(f"line {number} is damaged ({error})") from error
        gone = tuple(charges[: len(last.charges)]) != last.charges
        if mark is None and marked:
            raise self._refusal(f"its mark {mark_of(self.path).name} is missing or damaged")
        if gone or not (mark is None or mark.holds(raw)):
            raise self._refusal(
                "charges that were there before are gone; a ledger is never put back to an"
                " earlier state"
            )
        sha256.update(raw[known.end : end])
        found = _Verified(end, sha256.digest(), checksum, tuple(charges), marked)
        self._remember(found)
        return found

    @property
    def header(self) -> dict[str, str]:
        """The first entry of the file: whose it is. Beside it stands that there is a mark, which
        ledgers from before there were marks do not say."""
        return {"format": FORMAT, "data_set": self.data_set}

    def _append(self, file: IO[bytes], charge: Charge, known: _Verified, before: bytes) -> None:
        """Write the line after ``before``, mark it, and remember it."""
        body = vars(charge)
        line = _line(known.checksum, body)
        end = known.end + len(line)
        with opened_mark(self.path) as mark:  # first, since it may fail
            file.truncate(known.end)
            file.seek(known.end)
            file.write(line)
            file.flush()
            if self.sync:
                os.fsync(file.fileno())
                put_mark(mark, end, line)
        written = hashlib.sha256(before + line).digest()
        checksum, charges = _checksum(known.checksum, body), (*known.charges, charge)
        self._remember(_Verified(end, written, checksum, charges, known.marked))
        if not os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
            raise self._refusal("was exchanged while it was charged")

    def _refusal(self, what: str) -> LedgerError:
        return LedgerError(
            f"ledger {self.path}: {what}; charges may be missing, so nothing is trained on this"
            " data until the file is whole again"
        )


def create_ledgers(ledgers: Sequence[Ledger]) -> None:
    """Begin new ledgers, each with its mark: the explicit step of their owner. They are on disk
    when it returns.

    Raises:
        LedgerError: there is one already, or the mark of one that was charged; or the disk cannot
            be written.
    """
    for ledger in ledgers:
        path = ledger.path
        line = _line("", {**ledger.header, "marked": True})
        broken_off = read_mark(path) == Mark(len(line), line[-MARKED:].decode())
        if os.path.lexists(path) or (os.path.lexists(mark_of(path)) and not broken_off):
            raise LedgerError(
                f"ledger {path}: was begun before; it is never replaced, since its budget would"
                " begin anew. Where it is damaged or missing, restore it with all its charges"
            )
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with _written(f"ledger {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(line)
                with opened_mark(path) as mark:  # before the ledger, which is damaged without it
                    put_mark(mark, len(line), line)
                os.link(temporary, path)  # whole or absent, and never over another
            finally:
                temporary.unlink(missing_ok=True)
    with _written("ledgers"):
        folders = {ledger.path.parent for ledger in ledgers}
        names = {name for folder in folders for name in directories_to_flush(folder)}
        paths = [ledger.path for ledger in ledgers]
        flush([*paths, *map(mark_of, paths), *sorted(names)])


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
    with _written("ledgers"):
        files = {path: path.read_bytes() for path in paths}
        flush(list(files))
        for path, raw in files.items():
            end = raw.rfind(b"\n") + 1
            with opened_mark(path) as mark:
                put_mark(mark, end, raw[:end])


@contextmanager
def _written(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise LedgerError(
            f"{what}{name}: cannot be written ({error.strerror or error}); nothing was trained"
        ) from error


def _line(previous: str, body: Mapping[str, object]) -> bytes:
    """A line of the file; ``previous`` is the checksum of the line before."""
    return (_text({"entry": body, "sha256": _checksum(previous, body)}) + "\n").encode()


def _checksum(previous: str, body: object) -> str:
    return hashlib.sha256((previous + _text(body)).encode()).hexdigest()


_text = json.JSONEncoder(sort_keys=True).encode
