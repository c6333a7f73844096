"""The one folder outside a run directory that fedlite writes to."""

import os
import tempfile
from pathlib import Path

HOME_CACHE = "~/.cache/fedlite"


def cache_folder() -> str:
    """Where teachers, public students and what pages and pictures need are kept: ``FEDLITE_CACHE``,
    else :data:`HOME_CACHE`."""
    return os.environ.get("FEDLITE_CACHE") or HOME_CACHE


def library_folder(name: str) -> Path:
    """A folder for what a library keeps that would write to the home itself: in the cache, or a
    temporary one where that cannot be written."""
    folder = Path(cache_folder()).expanduser() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix=f"fedlite-{name}-"))
    return folder
