"""The ``npz`` source: arrays by key from one NumPy archive."""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedlite.config import DatasetConfig
from fedlite.data.raw import Array, RawData, arrange, root_path
from fedlite.errors import UsageError

_REQUIRED = ("inputs_train", "labels_train")
_OPTIONAL = ("inputs_test", "labels_test", "groups_train", "class_names")

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


def read_npz(config: DatasetConfig) -> RawData:
    """Read ``dataset.files.data`` under ``dataset.root``; ``dataset.keys`` names its arrays.

    Raises:
        UsageError: file or key missing, or the archive is corrupt or truncated.
    """
    if not config.files.get("data"):
        raise UsageError(f"dataset.files.data: missing for dataset {config.name}; give a .npz file")
    for key in _REQUIRED:
        if not config.keys.get(key):
            raise UsageError(f"dataset.keys.{key}: missing; give the array's name in the file")
    wanted = {role: config.keys[role] for role in _REQUIRED + _OPTIONAL if config.keys.get(role)}
    arrays = read_arrays(root_path(config) / config.files["data"], wanted)
    test = arrays.get("inputs_test")
    names = arrays.get("class_names")
    return RawData(
        inputs_train=arrange(arrays["inputs_train"], config.layout),
        labels_train=arrays["labels_train"],
        inputs_test=None if test is None else arrange(test, config.layout),
        labels_test=arrays.get("labels_test"),
        groups=arrays.get("groups_train"),
        class_names=None if names is None else tuple(str(name) for name in names.ravel()),
    )


def read_arrays(path: Path, wanted: Mapping[str, str]) -> dict[str, Array]:
    """Read arrays from an .npz file, never unpickling.

    Args:
        path: the archive.
        wanted: role -> the array's key in the archive.

    Returns:
        role -> array.

    Raises:
        UsageError: no such file, not an .npz archive, corrupt, or a key is not there.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; check dataset.root and dataset.files")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UsageError(f"{path}: a single array; expected an .npz archive of named arrays")
        with archive:
            for role, key in wanted.items():
                if key not in archive:
                    found = ", ".join(archive.files)
                    raise UsageError(f"{path}: no array {key!r} (dataset.keys.{role}); has {found}")
            return {role: archive[key] for role, key in wanted.items()}
    except _DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path}: corrupt, truncated or no .npz archive ({reason})") from error
