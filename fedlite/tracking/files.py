"""Writing a file so that it is whole or not there."""

import os
from pathlib import Path


def write_whole(path: Path, data: bytes | str) -> None:
    """Write ``data`` to ``path`` atomically and make its folder; text is UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data.encode() if isinstance(data, str) else data)
    partial.replace(path)
