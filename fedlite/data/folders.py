"""Files in a folder for each class: which parts there are, and what lies in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.base.files import visible_files
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import Array


@dataclass(frozen=True, eq=False)
class Listed:
    """What lies in the folders of the classes: their names, all files, the class of each by its
    place, and a line on files of other kinds."""

    folder: Path
    classes: tuple[str, ...]
    files: list[Path]
    labels: Array
    notes: tuple[str, ...]

    def places_in(self, other: "Listed") -> Array:
        """The labels as places among the classes of the training part ``other``.

        Raises:
            UsageError: a class has no folder there.
        """
        if unknown := set(self.classes) - set(other.classes):
            raise UsageError(
                f"{self.folder}: class {min(unknown)!r} has no folder in {other.folder}"
            )
        places = np.array([other.classes.index(name) for name in self.classes])
        found: Array = places[self.labels]
        return found


def parts_of(root: Path, config: DatasetOptions) -> tuple[Path, Path | None]:
    """The folders of the training and of the test part.

    ``dataset.files`` names them; left empty they are ``train`` and ``test``, where ``train`` is
    there, else all of ``root`` is the training part.

    Raises:
        UsageError: one that is named is not there, or the test part has none beside it.
    """
    named = {part: config.files.get(part) for part in ("train", "test")}
    for part, name in named.items():
        if name and not (root / name).is_dir():
            raise UsageError(f"dataset.files.{part}={name}: no such folder in {root}")
    train = root / (named["train"] or "train")
    test = root / (named["test"] or "test")
    if train.is_dir():
        return train, test if test.is_dir() else None
    if named["test"]:
        raise UsageError(
            f"dataset.files.test={named['test']}: the training part then needs a folder of its own;"
            " name it with dataset.files.train"
        )
    return root, None


def listed(folder: Path, suffixes: Sequence[str], what: str) -> Listed:
    """The files of some suffixes below a folder, the name of whose first folder is their class;
    ``what`` they are, in words. Hidden files are left out.

    Raises:
        UsageError: there is none.
    """
    found = [path for path in visible_files(folder) if path.parent != folder]
    files = [path for path in found if path.suffix.lower() in suffixes]
    if not files:
        kinds = ", ".join(one.removeprefix(".") for one in suffixes)
        raise UsageError(f"{folder}: no folder with {what} ({kinds}); expected one a class")
    names = [path.relative_to(folder).parts[0] for path in files]
    classes, labels = np.unique(names, return_inverse=True)
    others = len(found) - len(files)
    note = f"{folder}: {others} files are no {what} and are left out of {len(files)} that are"
    return Listed(folder, tuple(map(str, classes)), files, labels, (note,) if others else ())
