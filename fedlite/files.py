"""Files that are whole or absent: atomic writes, tensors without pickle, hashes."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedlite.errors import FedliteError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary sibling, flush it to disk, then rename it onto ``path``.

    Raises:
        FedliteError: the directory or disk cannot be written; ``path`` is as it was before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FedliteError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):  # where the folder itself is wrong, that is said above
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes | str) -> None:
    """Write ``data`` atomically; text is UTF-8."""
    raw = data.encode() if isinstance(data, str) else data

    def write(temporary: Path) -> None:
        temporary.write_bytes(raw)

    write_atomically(path, write)


def replace_folder(made: Path, path: Path) -> None:
    """Put the finished folder ``made`` in the place of ``path``, whatever is there.

    Both lie on one file system.

    Raises:
        OSError: it cannot be moved; what was at ``path`` is there still.
    """
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True
    ) as aside:
        old = Path(aside) / "old"
        if replaces := path.exists():
            path.rename(old)
        try:
            made.rename(path)
        except BaseException:  # Ctrl-C too
            if replaces:
                old.rename(path)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FedliteError: missing or damaged file.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FedliteError(f"{path}: cannot be read as JSON ({error})") from error


def save_tensors(path: Path, value: Any) -> None:
    """Save tensors in plain containers, atomically; :func:`load_tensors` needs no pickle."""

    def write(temporary: Path) -> None:
        try:
            torch.save(value, temporary)
        except RuntimeError as error:  # torch reports a full disk as a RuntimeError of its writer
            raise OSError(str(error).splitlines()[0]) from error

    write_atomically(path, write)


def load_tensors(path: Path) -> Any:
    """Load what :func:`save_tensors` wrote, refusing anything but tensors and plain containers.

    Raises:
        FedliteError: missing or damaged file.
    """
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FedliteError(f"{path}: cannot be read ({reason})") from error


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of a state dict, in its order."""
    digest = hashlib.sha256()
    for name, value in state.items():
        array = value.detach().contiguous().numpy()
        digest.update(f"{name}|{array.dtype}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
