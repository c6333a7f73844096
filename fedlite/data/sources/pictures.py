"""The ``pictures`` source: a folder for each class, with its pictures in it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from fedlite.base.errors import UsageError
from fedlite.base.files import visible_files
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import Array, RawData, root_path
from fedlite.serve.pictures import PICTURES, fit, in_colour, open_picture

_SHOWN = 3  # sizes in a message


def read(config: DatasetOptions) -> RawData:
    """Read the pictures below ``dataset.root``; a class is a folder, and its name the folder's.

    ``dataset.files`` names the folders of training and test part; left empty they are ``train``
    and ``test``, where ``train`` is there, else all of ``dataset.root`` is the training part.
    Pictures are turned upright, fitted into ``dataset.size`` as ``fedlite predict`` does, and read
    in ``dataset.colour``. Hidden files and files that are no pictures are left out.

    Raises:
        UsageError: there is no class, or pictures of several sizes and no ``dataset.size``.
        FedliteError: a picture is damaged.
    """
    root = root_path(config)
    if not root.is_dir():
        raise UsageError(
            f"dataset.root={root}: not a folder; give one that holds one for each class"
        )
    train, test = _parts(root, config)
    found = _listed(train)
    images = _fitted(found.files, config.size)
    grey = config.colour == "grey"
    if config.colour == "auto":
        grey = not any(map(in_colour, images))
    raw = RawData(
        inputs_train=_stacked(images, found.files, grey),
        labels_train=found.labels,
        class_names=found.classes,
        notes=found.notes,
    )
    if test is None:
        return raw
    tested = _listed(test)
    if unknown := set(tested.classes) - set(found.classes):
        raise UsageError(f"{test}: class {min(unknown)!r} has no folder in {train}")
    places = np.array([found.classes.index(name) for name in tested.classes])
    return replace(
        raw,
        inputs_test=_stacked(_fitted(tested.files, config.size), tested.files, grey),
        labels_test=places[tested.labels],
        notes=(*found.notes, *tested.notes),
    )


def _parts(root: Path, config: DatasetOptions) -> tuple[Path, Path | None]:
    """The folders of the training and of the test part."""
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


@dataclass(frozen=True, eq=False)
class _Listed:
    """What lies in the folders of the classes: their names, all pictures, the class of each by its
    place, and a line on files that are no pictures."""

    classes: tuple[str, ...]
    files: list[Path]
    labels: Array
    notes: tuple[str, ...]


def _listed(folder: Path) -> _Listed:
    found = [path for path in visible_files(folder) if path.parent != folder]
    files = [path for path in found if path.suffix.lower() in PICTURES]
    if not files:
        kinds = ", ".join(one.removeprefix(".") for one in PICTURES)
        raise UsageError(f"{folder}: no folder with pictures ({kinds}); expected one a class")
    names = [path.relative_to(folder).parts[0] for path in files]
    classes, labels = np.unique(names, return_inverse=True)
    others = len(found) - len(files)
    note = f"{folder}: {others} files are no pictures and are left out of {len(files)} that are"
    return _Listed(tuple(map(str, classes)), files, labels, (note,) if others else ())


def _fitted(files: Sequence[Path], size: int | None) -> list[Image.Image]:
    opened = (open_picture(path, "dataset.root") for path in files)
    return [image if size is None else fit(image, size, size) for image in opened]


def _stacked(images: Sequence[Image.Image], files: Sequence[Path], grey: bool) -> Array:
    """(n, C, H, W) of 8 bits, of one channel or of three."""
    sizes = {image.size: path for image, path in zip(images, files, strict=True)}
    if len(sizes) > 1:
        some = ", ".join(f"{w}x{h} ({sizes[w, h].name})" for w, h in sorted(sizes)[:_SHOWN])
        raise UsageError(
            f"dataset.root: pictures of {len(sizes)} sizes, such as {some}; give dataset.size=32"
            " (or another number of pixels) to fit them all into a square"
        )
    pixels = np.stack([np.asarray(image.convert("L" if grey else "RGB")) for image in images])
    return pixels[:, None] if grey else np.moveaxis(pixels, -1, 1)
