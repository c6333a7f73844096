"""Lines that only grow: how ledgers are written, whether a file holds one of them or many.

One JSON line per entry, each with a checksum: a SHA-256 over the entry and the checksum before,
which shows changed, reordered and missing lines. A last line without its line end was cut off in
mid-write, before training began: it is dropped and the file goes on. Beside the file lies a mark of
how far it reached (:mod:`fedlite.privacy.marks`). Nothing here can refund, overwrite or restore,
and none of it holds against an owner who forges his own file: there is no secret in it that he
would not know.
"""

import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from fedlite.base.flush import directories_to_flush, flush
from fedlite.privacy.ledger import LedgerError
from fedlite.privacy.marks import Mark, mark_of, opened_mark, put_mark, read_mark

LOCK_SECONDS = 60.0  # that a charge waits for those of others
LOCK_PAUSE = 0.002  # seconds between two tries


def line_of(previous: str, entry: Mapping[str, object]) -> bytes:
    """The line of an entry; ``previous`` is the checksum of the line before, "" of none."""
    text = _text({"entry": entry, "sha256": checksum_of(previous, entry)})
    return f"{text}\n".encode()


def checksum_of(previous: str, entry: Mapping[str, object]) -> str:
    """Of an entry and of all lines before it."""
    return hashlib.sha256((previous + _text(entry)).encode()).hexdigest()


_text = json.JSONEncoder(sort_keys=True).encode


def read_lines(
    path: Path, raw: bytes, previous: str, first: int, take: Callable[[int, dict[str, Any]], None]
) -> str:
    """Hand the entries of ``raw``, whole lines, to ``take`` with their numbers.

    Args:
        path: the file that they are of.
        previous: the checksum of the line before ``raw``.
        first: the number of the first line in ``raw``.

    Returns:
        The checksum of the last line.

    Raises:
        LedgerError: a line is damaged, or ``take`` makes nothing of its entry.
    """
    for number, line in enumerate(raw.decode(errors="replace").splitlines(), first):
        try:
            record = json.loads(line)
            entry = record["entry"]
            previous = checksum_of(previous, entry)
            if record["sha256"] != previous:
                raise ValueError("checksum differs")
            take(number, entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise refusal(path, f"line {number} is damaged ({error})") from error
    return previous


def whole_lines(path: Path, raw: bytes, known: int = 0) -> bytes:
    """``raw`` without a last line that was cut off; ``known`` bytes of the file lie before it.

    Raises:
        LedgerError: the file holds no whole line.
    """
    end = raw.rfind(b"\n") + 1
    if known + end == 0:
        raise refusal(path, "is empty or cut off in its first line")
    return raw[:end]


def check_reached(path: Path, file: IO[bytes], reached: Mark, mark: Mark | None) -> None:
    """Refuse a file that does not reach as far as this process knows, and as its ``mark`` says.

    Raises:
        LedgerError: lines are gone, or the mark is.
    """
    if mark is None:
        raise refusal(path, f"its mark {mark_of(path).name} is missing or damaged")
    if not (reached.holds(file) and mark.holds(file)):
        raise refusal(
            path,
            "charges that were there before are gone; a ledger is never put back to an earlier"
            " state",
        )


@contextmanager
def opened(path: Path, mode: Literal["rb", "r+b"]) -> Iterator[IO[bytes]]:
    """The file itself: neither a link to another place nor anything but a file is taken for it.

    Raises:
        LedgerError: missing, no regular file, or it cannot be read or written.
    """
    access = os.O_RDONLY if mode == "rb" else os.O_RDWR
    try:
        # A FIFO must not block; what is no file is refused below.
        descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise refusal(path, "is no regular file")
        with os.fdopen(descriptor, mode) as file:
            yield file
    except FileNotFoundError as error:
        raise refusal(
            path,
            "is missing; whoever owns new data begins their ledger once, with"
            " `fedlite ledger init` (docs/device-policy.md), a simulation with its start",
        ) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise refusal(path, "is a link to another place") from error
        done = "read" if mode == "rb" else "written"
        raise LedgerError(
            f"ledger {path}: cannot be {done} ({error.strerror or error}); nothing was trained"
        ) from error


def lock(path: Path, file: IO[bytes]) -> None:
    """Keep all others from charging until ``file`` is closed, or the process has ended.

    Raises:
        LedgerError: others have held it for ``LOCK_SECONDS``.
    """
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise LedgerError(
                    f"ledger {path}: another process has held its lock for {LOCK_SECONDS:g} s;"
                    " nothing was trained"
                ) from error
            time.sleep(LOCK_PAUSE)


def write_line(file: IO[bytes], end: int, line: bytes) -> None:
    """Write ``line`` after the first ``end`` bytes, in place of a line that was cut off there."""
    file.truncate(end)
    file.seek(end)
    file.write(line)
    file.flush()


def check_in_place(path: Path, file: IO[bytes]) -> None:
    """Refuse a charge to a file that is no longer the one at ``path``.

    Raises:
        LedgerError: it was exchanged; OSError where nothing lies there.
    """
    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise refusal(path, "was exchanged while it was charged")


def begin_files(first_lines: Mapping[Path, bytes]) -> None:
    """Begin files with their first lines and marks: the explicit step of their owner. They are on
    disk when it returns.

    Raises:
        LedgerError: there is one already, or the mark of one that was charged; or the disk cannot
            be written.
    """
    for path, line in first_lines.items():
        first = Mark.at(len(line), line)
        broken_off = read_mark(path) == first
        if os.path.lexists(path) or (os.path.lexists(mark_of(path)) and not broken_off):
            raise LedgerError(
                f"ledger {path}: was begun before; it is never replaced, since its budget would"
                " begin anew. Where it is damaged or missing, restore it with all its charges"
            )
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with written(f"ledger {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(line)
                with opened_mark(path) as mark:  # before the ledger, which is damaged without it
                    put_mark(mark, first)
                os.link(temporary, path)  # whole or absent, and never over another
            finally:
                temporary.unlink(missing_ok=True)
    with written("ledgers"):
        folders = {path.parent for path in first_lines}
        names = {name for folder in folders for name in directories_to_flush(folder)}
        flush([*first_lines, *map(mark_of, first_lines), *sorted(names)])


@contextmanager
def written(what: str) -> Iterator[None]:
    """Say in one line what could not be written within.

    Raises:
        LedgerError: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise LedgerError(
            f"{what}{name}: cannot be written ({error.strerror or error}); nothing was trained"
        ) from error


def refusal(path: Path, what: str) -> LedgerError:
    """The error that ends all training on the data of a ledger."""
    return LedgerError(
        f"ledger {path}: {what}; charges may be missing, so nothing is trained on this"
        " data until the file is whole again"
    )
