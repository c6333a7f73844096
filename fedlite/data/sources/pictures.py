"""The ``pictures`` source: a folder for each class, with its pictures in it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from fedlite.base.errors import UsageError
from fedlite.data.folders import listed, parts_of
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import Array, RawData, root_path
from fedlite.serve.pictures import PICTURES, fit, in_colour, open_picture

_SHOWN = 3  # sizes in a message


def read(config: DatasetOptions) -> RawData:
    """Read the pictures below ``dataset.root``; a class is a folder, and its name the folder's.

    ``dataset.files`` names the folders of training and test part
    (:func:`fedlite.data.folders.parts_of`). Pictures are turned upright, fitted into
    ``dataset.size`` as ``fedlite predict`` does, and read in ``dataset.colour``. Hidden files and
    files that are no pictures are left out.

    Raises:
        UsageError: there is no class, or pictures of several sizes and no ``dataset.size``.
        FedliteError: a picture is damaged.
    """
    root = root_path(config)
    if not root.is_dir():
        raise UsageError(
            f"dataset.root={root}: not a folder; give one that holds one for each class"
        )
    train, test = parts_of(root, config)
    found = listed(train, PICTURES, "pictures")
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
    tested = listed(test, PICTURES, "pictures")
    return replace(
        raw,
        inputs_test=_stacked(_fitted(tested.files, config.size), tested.files, grey),
        labels_test=tested.places_in(found),
        notes=(*found.notes, *tested.notes),
    )


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
