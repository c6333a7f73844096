"""The ``npy`` source: one .npy file for each array, which stays on disk and is read as needed."""

from pathlib import Path

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean_file
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import Array, RawData, arrange, root_path

_DEFAULTS = {"inputs_train": "x_train.npy", "labels_train": "y_train.npy"}
_TEST = {"inputs_test": "x_test.npy", "labels_test": "y_test.npy"}


def read(config: DatasetOptions) -> RawData:
    """Read the arrays that ``dataset.files`` names under ``dataset.root``.

    Inputs are mapped, not loaded: private examples come into memory a client at a time where they
    are float32 or 8-bit integers with channels first. A test part is read where both its files are
    there.

    Raises:
        UsageError: a file is missing, is no .npy file, or holds objects.
    """
    root = root_path(config)
    folder = root if root.is_dir() else root.parent
    named = {role: name for role, name in config.files.items() if name}
    train = {role: _read(folder / named.get(role, name), role) for role, name in _DEFAULTS.items()}
    paths = {role: folder / named.get(role, name) for role, name in _TEST.items()}
    given = any(role in named and named[role] != name for role, name in _TEST.items())
    test: dict[str, Array] = {}
    if given or any(path.is_file() for path in paths.values()):
        test = {role: _read(path, role) for role, path in paths.items()}
    groups = named.get("groups_train")
    return RawData(
        inputs_train=arrange(train["inputs_train"], config.layout),
        labels_train=train["labels_train"],
        inputs_test=arrange(test["inputs_test"], config.layout) if test else None,
        labels_test=test.get("labels_test"),
        groups=_read(folder / groups, "groups_train") if groups else None,
    )


def _read(path: Path, role: str) -> Array:
    """An array that changes in memory alone."""
    if not path.is_file():
        hint = did_you_mean_file(path) or ";"
        raise UsageError(f"{path}: no such file{hint} check dataset.root and dataset.files.{role}")
    try:
        found = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if "Python objects" in str(error):
            raise UsageError(
                f"{path}: holds Python objects, which could run code when read; save numbers of one"
                " shape, and text with .astype(str)"
            ) from error
        raise UsageError(
            f"{path}: corrupt, truncated or no .npy file; write it anew with numpy.save"
        ) from error
    if not isinstance(found, np.ndarray):
        raise UsageError(f"{path}: an archive of arrays; read it with dataset=npz")
    return found
