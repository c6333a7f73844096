"""The hub of data sets: whether it can be reached, found out quickly."""

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

ENDPOINT = "https://huggingface.co"  # unless HF_ENDPOINT names another
SECONDS = 5.0
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")  # set by whoever wants the cache alone


def offline_where_unreachable() -> None:
    """Keep the hub's libraries to their cache where its host does not answer: they would try again
    and again for half a minute. Whoever has set one of ``OFFLINE`` is heeded. Called before the
    libraries are imported, which read the environment then."""
    if any(name in os.environ for name in OFFLINE):
        return
    if not reachable(getproxies().get("https") or os.environ.get("HF_ENDPOINT", ENDPOINT)):
        os.environ[OFFLINE[0]] = "1"


def reachable(address: str) -> bool:
    """Whether the host of an address takes a connection."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=SECONDS).close()
    except OSError:
        return False
    return True
