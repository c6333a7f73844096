"""The one folder outside a run directory that fedlite writes to."""

import os

HOME_CACHE = "~/.cache/fedlite"


def cache_folder() -> str:
    """Where teachers, public students and what pages and pictures need are kept: ``FEDLITE_CACHE``,
    else :data:`HOME_CACHE`."""
    return os.environ.get("FEDLITE_CACHE") or HOME_CACHE
