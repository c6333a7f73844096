"""Tensors on disk without pickle, and their hashes."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedlite.base.errors import FedliteError
from fedlite.base.files import write_atomically


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
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FedliteError(f"{path}: cannot be read ({reason})") from error


def on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as every machine can read it: its arrays on the processor, names as they are."""
    return {name: value.cpu() for name, value in state.items()}


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of a state dict, in its order."""
    digest = hashlib.sha256()
    for name, value in state.items():
        array = value.detach().cpu().contiguous().numpy()
        digest.update(f"{name}|{array.dtype}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
