"""Predicting with a deployable folder alone: numpy, pillow and the model's runtime; no torch."""

import csv
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fedlite.base.errors import FedliteError, UsageError
from fedlite.serve.kind import Array
from fedlite.serve.runtime import logits_of, open_runtime
from fedlite.serve.verify import MANIFEST

IMAGES = (".png", ".jpg", ".jpeg")
DEFAULT = "student.onnx"


@dataclass(frozen=True)
class Prediction:
    """Classes of one example with their probabilities, the likeliest first."""

    source: str
    probabilities: list[tuple[str, float]]


@dataclass(frozen=True)
class Preprocessing:
    """How raw inputs become the model's: ``(raw / scale - mean) / std`` per leading dimension.

    ``columns`` names the features of a table; empty for other inputs.
    """

    input_shape: tuple[int, ...]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    columns: tuple[str, ...] = ()

    def normalise(self, raw: NDArray[Any]) -> Array:
        """Raw (n, *input_shape) to normalised float32 of the same shape."""
        shape = (1, -1) + (1,) * (len(self.input_shape) - 1)
        mean = np.array(self.mean, dtype=np.float32).reshape(shape)
        std = np.array(self.std, dtype=np.float32).reshape(shape)
        normalised: Array = (raw.astype(np.float32) / np.float32(self.scale) - mean) / std
        return normalised


def predict(model_path: Path, input_path: Path) -> list[Prediction]:
    """Predict for every example in ``input_path``.

    ``model_path`` is an exported file of any format, or its folder (:func:`choose_model`);
    ``labels.json`` and ``preprocessing.json`` are read beside it. An image (png, jpg) is turned
    upright, laid on black where it is transparent, and converted to the model's channels and
    size; its full range stands for the raw range 0..``scale``. An npz holds raw values in the
    array ``inputs``, or in its only or first one: one example or many, channels first or last, or
    flattened. A csv holds one flattened example per line, channels first, with or without a
    header; where the model is of a table, a header with its columns among others.

    Raises:
        UsageError: a file is missing, of an unknown kind, or its examples have another shape.
        FedliteError: a file is damaged.
    """
    if not model_path.exists():
        raise UsageError(f"{model_path}: no such file or folder; name a run or an exported student")
    model_path = choose_model(model_path)
    runtime = open_runtime(model_path)
    preprocessing = _read_preprocessing(model_path.with_name("preprocessing.json"))
    labels = _read_json(model_path.with_name("labels.json"))
    names, raw = _read_inputs(input_path, preprocessing)
    logits = logits_of(runtime, preprocessing.normalise(raw)).astype(np.float64)
    if not isinstance(labels, list) or len(labels) != logits.shape[1]:
        raise FedliteError(
            f"{model_path.with_name('labels.json')}: must list {logits.shape[1]} class names"
        )
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    return [
        Prediction(name, [(str(labels[i]), float(row[i])) for i in np.argsort(-row, kind="stable")])
        for name, row in zip(names, probabilities, strict=True)
    ]


def choose_model(path: Path) -> Path:
    """``path``, or in a deployable folder ``student.onnx``, or the first of its manifest.

    Raises:
        FedliteError: the manifest is damaged.
    """
    if not path.is_dir() or path.suffix == ".mlpackage":  # a Core ML model is a folder, too
        return path
    if (path / DEFAULT).is_file() or not (path / MANIFEST).is_file():
        return path / DEFAULT
    entries = _read_json(path / MANIFEST)
    try:
        name = str(entries[0]["file"])
    except (LookupError, TypeError) as error:
        raise FedliteError(f"{path / MANIFEST}: names no model") from error
    if Path(name).name != name:
        raise FedliteError(f"{path / MANIFEST}: names {name}, which is not a file of the folder")
    return path / name


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; it belongs beside the model")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FedliteError(f"{path}: damaged, not JSON") from error


def _read_preprocessing(path: Path) -> Preprocessing:
    found = _read_json(path)
    try:
        return Preprocessing(
            input_shape=tuple(int(size) for size in found["input_shape"]),
            scale=float(found["scale"]),
            mean=tuple(float(value) for value in found["mean"]),
            std=tuple(float(value) for value in found["std"]),
            columns=tuple(map(str, found.get("columns", ()))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FedliteError(f"{path}: needs input_shape, scale, mean and std") from error


def _read_inputs(path: Path, preprocessing: Preprocessing) -> tuple[list[str], NDArray[Any]]:
    """Names of the examples and their raw values (n, *input_shape)."""
    if not path.is_file():
        raise UsageError(f"input={path}: no such file; give an image, npz or csv")
    kind, shape = path.suffix.lower(), preprocessing.input_shape
    if kind in IMAGES:
        return [path.name], _read_image(path, shape) * preprocessing.scale
    if kind == ".npz":
        raw = shaped(_read_npz(path), shape, path)
        return [f"{path.name}[{i}]" for i in range(len(raw))], raw
    if kind == ".csv":
        lines, rows = _read_csv(path, math.prod(shape), preprocessing.columns)
        return [f"{path.name}:{line}" for line in lines], rows.reshape(-1, *shape)
    raise UsageError(f"input={path}: unknown kind {kind or '(none)'}; give png, jpg, npz or csv")


def _read_image(path: Path, shape: tuple[int, ...]) -> Array:
    """One image (1, C, H, W) with values from 0 to 1."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise UsageError(f"input={path}: this model takes inputs {shape}, not images; give npz")
    channels, height, width = shape
    try:
        with Image.open(path) as image:
            fitted = _eight_bits(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise UsageError(f"input={path}: too large an image; scale it down first") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise FedliteError(f"input={path}: not an image, or damaged") from error
    fitted = fitted.convert("L" if channels == 1 else "RGB")
    if fitted.size != (width, height):
        for size in ((width, fitted.height), (width, height)):  # the page does it in this order
            fitted = fitted.resize(size, Image.Resampling.BILINEAR)
    pixels: Array = np.asarray(fitted, dtype=np.float32).reshape(height, width, channels)
    return pixels.transpose(2, 0, 1)[None] / np.float32(255)


def _eight_bits(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit grey or RGB: the high bytes of 16-bit grey; transparency on black."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("L", "RGB"):
        return image.copy()
    black = Image.new("RGBA", image.size, "black")
    return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")


def _read_npz(path: Path) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            if not stored.files:
                raise UsageError(f"input={path}: holds no array; give one named inputs")
            key = "inputs" if "inputs" in stored.files else stored.files[0]
            array = np.asarray(stored[key])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FedliteError(f"input={path}: not an npz file of numbers, or damaged") from error
    if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
        raise UsageError(f"input={path}: array {key} must hold finite numbers")
    return array


def shaped(array: NDArray[Any], shape: tuple[int, ...], source: Path) -> NDArray[Any]:
    """``array`` as (n, *shape): one example or many, channels first or last, or flattened.

    Raises:
        UsageError: it fits none of these.
    """
    last = (*shape[1:], shape[0])
    plain = shape[1:] if shape[0] == 1 else shape
    flat = (math.prod(shape),)
    for example in (shape, last, plain, flat):
        for batch in (array[None], array):
            if batch.shape[1:] == example and len(batch):
                if example == last != shape:
                    batch = np.moveaxis(batch, -1, 1)
                return batch.reshape(-1, *shape)
    raise UsageError(
        f"input={source}: shape {array.shape} does not fit; expected {shape} or n of them"
    )


def _read_csv(
    path: Path, width: int, columns: tuple[str, ...] = ()
) -> tuple[list[int], NDArray[np.float64]]:
    """Line numbers and values (n, width); a first line of words is a header.

    A header that holds all of ``columns`` says where they are, whatever lies between them.
    """
    lines, rows = [], []
    places: list[int] | None = None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, cells in enumerate(csv.reader(file), start=1):
                if number == 1 and columns and set(columns) <= {cell.strip() for cell in cells}:
                    names = [cell.strip() for cell in cells]
                    places = [names.index(name) for name in columns]
                    continue
                if places is not None:
                    cells = [cells[place] for place in places if place < len(cells)]
                values = _numbers(cells)
                if not cells or (values is None and number == 1):
                    continue
                if values is None:
                    raise UsageError(f"input={path}: line {number} holds more than finite numbers")
                if len(values) != width:
                    raise UsageError(
                        f"input={path}: line {number} has {len(values)} values; expected {width}"
                    )
                lines.append(number)
                rows.append(values)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FedliteError(f"input={path}: not a csv file, or damaged") from error
    if not rows:
        raise UsageError(f"input={path}: holds no example; expected {width} values per line")
    return lines, np.array(rows)


def _numbers(cells: list[str]) -> list[float] | None:
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None
