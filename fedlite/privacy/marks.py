"""The mark beside a ledger: how far the file reached when it was last known to be on disk.

A ledger alone does not show that its last lines were cut off, or that an older copy of it was put
back. Its mark does, to every process, as long as the two are not put back together. A ledger says
in its first line that it was begun with a mark, and is not read without one.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MARKED = 67  # bytes at the end of a line: its checksum and what closes it


@dataclass(frozen=True)
class Mark:
    """The ledger held ``end`` bytes at least, and the last line of these ended with ``text``.

    That text holds the line's checksum, which is one of all lines up to there.
    """

    end: int
    text: str

    def holds(self, raw: bytes) -> bool:
        """Whether a ledger's content still reaches so far, unchanged."""
        return len(raw) >= self.end and raw[: self.end].endswith(self.text.encode())


def mark_of(path: Path) -> Path:
    """The mark's file, beside the ledger ``path``."""
    return Path(f"{path}.mark")


def read_mark(path: Path) -> Mark | None:
    """The mark of the ledger ``path``; None where there is none that can be read."""
    try:
        found = re.fullmatch(rf"(\d{{15}}) (.{{{MARKED}}})", mark_of(path).read_text(), re.DOTALL)
    except (OSError, ValueError):
        return None
    return Mark(int(found[1]), found[2]) if found else None


@contextmanager
def opened_mark(path: Path) -> Iterator[int]:
    """The descriptor of the mark of the ledger ``path`` for :func:`put_mark`, begun if need be.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(mark_of(path), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def put_mark(descriptor: int, end: int, line: bytes) -> None:
    """Mark that the ledger holds ``end`` bytes, up to its ``line``, which are on disk.

    All marks have one length, so that one write replaces another whole and needs no room.

    Raises:
        OSError: it cannot be written; the older mark stays, which says less and nothing wrong.
    """
    os.pwrite(descriptor, f"{end:015d} ".encode() + line[-MARKED:], 0)
