"""The mark beside a ledger: how far the file reached when it was last known to be on disk.

A ledger alone does not show that its last lines were cut off, or that an older copy of it was put
back. Its mark does, to every process, as long as the two are not put back together.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

MARKED = 67  # bytes at the end of a line: its checksum and what closes it


@dataclass(frozen=True)
class Mark:
    """The ledger held ``end`` bytes at least, and the last line of these ended with ``text``.

    That text holds the line's checksum, which is one of all lines up to there.
    """

    end: int = 0
    text: str = ""

    def holds(self, raw: bytes) -> bool:
        """Whether a ledger's content still reaches so far, unchanged."""
        return len(raw) >= self.end and raw[: self.end].endswith(self.text.encode())


def mark_of(path: Path) -> Path:
    """The mark's file, beside the ledger ``path``."""
    return Path(f"{path}.mark")


def read_mark(path: Path) -> Mark:
    """The mark of the ledger ``path``; one of nothing where there is none that can be read (a
    ledger from before there were marks, or a mark that was lost)."""
    try:
        end, text = mark_of(path).read_text().split(" ", 1)
        return Mark(int(end), text)
    except (OSError, ValueError):
        return Mark()


def write_mark(path: Path, end: int, line: bytes) -> None:
    """Mark that the ledger ``path`` holds ``end`` bytes, up to its ``line``, which are on disk.

    On a full disk the older mark stays: it says less, and nothing wrong. All marks have one length,
    so that one write replaces another whole and needs no room.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(f"{path}.mark", os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, f"{end:015d} ".encode() + line[-MARKED:], 0)
        finally:
            os.close(descriptor)
