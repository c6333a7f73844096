"""What a shipped model takes, and how raw values become its inputs: ``preprocessing.json``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import FedliteError, UsageError
from fedlite.serve.kind import Array
from fedlite.serve.logmel import LogMel
from fedlite.serve.texts import TextPreprocessing

Kind = Literal["picture", "map", "series", "vector", "sound"]

LARGEST_STD = 0.5  # of values between 0 and 1


@dataclass(frozen=True)
class Preprocessing:
    """How raw inputs become the model's: ``(raw / scale - mean) / std`` per leading dimension.

    ``input_shape`` is (C, H, W), (C, L) or (F,). ``columns`` names the features of a table; empty
    for other inputs. ``sound`` makes raw inputs of recordings; None for other inputs.
    """

    input_shape: tuple[int, ...]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    columns: tuple[str, ...] = ()
    sound: LogMel | None = None

    def normalise(self, raw: NDArray[Any]) -> Array:
        """Raw (n, *input_shape) to normalised float32 of the same shape."""
        shape = (1, -1) + (1,) * (len(self.input_shape) - 1)
        mean = np.array(self.mean, dtype=np.float32).reshape(shape)
        std = np.array(self.std, dtype=np.float32).reshape(shape)
        normalised: Array = (raw.astype(np.float32) / np.float32(self.scale) - mean) / std
        return normalised

    @property
    def kind(self) -> Kind:
        """What one example is.

        A ``picture`` has one channel or three, and raw values from 0 to ``scale``: mean and
        deviation of the training data tell. A ``map`` is any other (C, H, W), such as a
        spectrogram, and a ``sound`` one whose front end is known.
        """
        if self.sound is not None:
            return "sound"
        if len(self.input_shape) == 1:
            return "vector"
        if len(self.input_shape) == 2:
            return "series"
        bounded = all(0 <= mean <= 1 for mean in self.mean) and max(self.std) <= LARGEST_STD
        return "picture" if self.input_shape[0] in (1, 3) and bounded else "map"

    @property
    def words(self) -> str:
        """What the model takes, in words."""
        if self.kind == "vector":
            return f"rows of {self.input_shape[0]} numbers"
        if self.kind == "series":
            channels, length = self.input_shape
            return f"series of {channels} x {length} values (channels x length)"
        if self.sound is not None:
            return f"recordings of {self.sound.seconds:g} s at {self.sound.rate:,} Hz"
        channels, height, width = self.input_shape
        if self.kind == "picture":
            return f"{'grey' if channels == 1 else 'colour'} pictures of {width}x{height} pixels"
        size = f"{channels} x {height} x {width} values (channels x rows x columns)"
        return f"maps of {size}, such as spectrograms"


def read_json(path: Path) -> Any:
    """A JSON file of a deployable folder.

    Raises:
        UsageError: it is not there.
        FedliteError: it is damaged.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; it belongs beside the model")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FedliteError(f"{path}: damaged, not JSON") from error


def read_preprocessing(path: Path) -> Preprocessing | TextPreprocessing:
    """The preprocessing that a file describes.

    Raises:
        UsageError: there is no such file.
        FedliteError: it is damaged.
    """
    found = read_json(path)
    if isinstance(found, dict) and found.get("kind") == "tokens":
        return _of_texts(found, path)
    try:
        return Preprocessing(
            input_shape=tuple(int(size) for size in found["input_shape"]),
            scale=float(found["scale"]),
            mean=tuple(float(value) for value in found["mean"]),
            std=tuple(float(value) for value in found["std"]),
            columns=tuple(map(str, found.get("columns", ()))),
            sound=None if found.get("sound") is None else _of_sounds(found["sound"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FedliteError(f"{path}: needs input_shape, scale, mean and std") from error


def _of_sounds(found: dict[str, Any]) -> LogMel:
    return LogMel(
        **{name: int(found[name]) for name in ("rate", "samples", "window", "hop")},
        edges=tuple(float(edge) for edge in found["edges"]),
        floor=float(found["floor"]),
    )


def _of_texts(found: dict[str, Any], path: Path) -> TextPreprocessing:
    try:
        tokenizer = path.with_name(found["tokenizer"])
        if tokenizer.name != found["tokenizer"] or not tokenizer.is_file():
            raise UsageError(f"{tokenizer}: no such file; it belongs beside the model")
        return TextPreprocessing(
            input_shape=tuple(int(size) for size in found["input_shape"]),
            tokenizer=tokenizer.read_text(encoding="utf-8"),
            columns=tuple(map(str, found["columns"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FedliteError(f"{path}: needs input_shape, tokenizer and columns") from error
