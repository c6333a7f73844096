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
from typing import IO

CHECKSUM = 64  # characters
MARKED = CHECKSUM + 3  # bytes at the end of a line: its checksum and what closes it


@dataclass(frozen=True)
class Mark:
    """The ledger held ``end`` bytes at least, and the last line of these ended with ``text``.

    That text begins with the line's checksum, which is one of all lines up to there.
    """

    end: int
    text: str

    @classmethod
    def at(cls, end: int, line: bytes) -> "Mark":
        """Of a ledger of ``end`` bytes whose last line is ``line``."""
        return cls(end, line[-MARKED:].decode())

    @property
    def checksum(self) -> str:
        """Of the last line and so of all; "" of none."""
        return self.text[:CHECKSUM]

    def holds(self, file: IO[bytes]) -> bool:
        """Whether a ledger still reaches so far, with the same line there."""
        text = self.text.encode()
        start = self.end - len(text)
        return start >= 0 and os.pread(file.fileno(), len(text), start) == text


NOTHING = Mark(0, "")
"""Every ledger reaches so far."""


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


def put_mark(descriptor: int, mark: Mark) -> None:
    """Mark how far the ledger reaches on disk.

    All marks have one length, so that one write replaces another whole and needs no room.

    Raises:
        OSError: it cannot be written; the older mark stays, which says less and nothing wrong.
    """
    os.pwrite(descriptor, f"{mark.end:015d} {mark.text}".encode(), 0)
