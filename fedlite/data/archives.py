"""Arrays by name out of an .npz archive, never unpickling."""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean_file
from fedlite.data.raw import Array

# What NumPy and zipfile raise on a damaged archive, by where the damage is.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
OBJECTS = "Object arrays"  # how NumPy's refusal to unpickle one begins


def read_arrays(
    path: Path, wanted: Mapping[str, str], option: str = "dataset.keys"
) -> dict[str, Array]:
    """Read arrays from an .npz file, never unpickling.

    Args:
        path: the archive.
        wanted: role -> the array's key in the archive.
        option: whose ``role`` names the key, for the error.

    Returns:
        role -> array.

    Raises:
        UsageError: no such file, not an .npz archive, corrupt, or a key is not there.
    """
    if not path.is_file():
        hint = did_you_mean_file(path) or ";"
        raise UsageError(f"{path}: no such file{hint} check dataset.root and dataset.files")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UsageError(f"{path}: a single array; expected an .npz archive of named arrays")
        with archive:
            for role, key in wanted.items():
                if key not in archive:
                    found = ", ".join(archive.files)
                    raise UsageError(f"{path}: no array {key!r} ({option}.{role}); has {found}")
            return {role: _array(archive, key, path) for role, key in wanted.items()}
    except _DAMAGED as error:
        raise UsageError(
            f"{path}: corrupt, truncated or no .npz archive; write it anew with numpy.savez"
        ) from error


def _array(archive: Mapping[str, Array], key: str, path: Path) -> Array:
    try:
        return archive[key]
    except ValueError as error:
        if OBJECTS not in str(error):
            raise
        raise UsageError(
            f"{path}: array {key!r} holds Python objects, which could run code when read; save"
            " numbers of one shape, and text with .astype(str)"
        ) from error
