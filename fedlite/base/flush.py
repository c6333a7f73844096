"""Onto the disk itself: files, and the names of new ones, that a power cut must not take."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FLUSH_THREADS = 8  # file systems join flushes that wait together


def flush(paths: Sequence[Path]) -> None:
    """Flush files and directories, together.

    Raises:
        OSError: one cannot be opened or written.
    """
    with ThreadPoolExecutor(FLUSH_THREADS) as pool:
        list(pool.map(_flush, paths))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def directories_to_flush(folder: Path) -> Iterator[Path]:
    """What holds the name of a new file in ``folder``: that directory and those above it, which
    may be new too; up to one that is surely older."""
    for directory in (folder.absolute(), *folder.absolute().parents):
        if not os.access(directory, os.R_OK):  # nobody makes a directory that he may not list
            return
        yield directory
        if directory.is_mount():
            return
