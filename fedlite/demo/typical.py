"""How public examples are spread, in a few figures: what the page holds an input against."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from fedlite.data.types import Normalise, PublicData, Task
from fedlite.distill.public import require_public
from fedlite.serve.preprocessing import Preprocessing

Array = NDArray[np.float64]
TAIL = 0.002  # of the public examples, left out at each end

Range = tuple[float, float]


class Slider(TypedDict):
    """The values that a number of a row has in public examples, and whether all are whole."""

    low: float
    high: float
    whole: bool


Typical = dict[str, Range] | list[Slider] | None


def typical_of(parts: Sequence[PublicData], task: Task) -> Typical:
    """What is usual among public examples: traits of pictures, the range of each number of a row.

    None for other inputs, and where there is no example.

    Raises:
        TypeError: a part is not :class:`PublicData`: the page shows these figures to anybody.
    """
    for part in parts:
        require_public(part)
    normalise = task.preprocessing
    if not isinstance(normalise, Normalise):
        return None
    kind = Preprocessing(
        task.input_shape, normalise.scale, normalise.mean, normalise.std, sound=task.sound
    ).kind
    raw = np.concatenate([normalise.undo(part.inputs).numpy() for part in parts])
    if not len(raw):
        return None
    if kind == "picture":
        found = traits(raw / normalise.scale)
        return {name: _usual(values[np.isfinite(values)]) for name, values in found.items()}
    if kind == "vector":
        return [_slider(column) for column in raw.T]
    return None


def traits(pictures: Array) -> dict[str, Array]:
    """By name, a figure for each picture (n, C, H, W) with values from 0 to 1; ``typical.js`` too.

    ``brightness`` and ``contrast`` are mean and standard deviation of the mean over channels. Ink
    is how far a pixel is from the median of the border: ``centre_x`` and ``centre_y`` are its mean
    place, ``spread_x`` and ``spread_y`` its standard deviation around it, as shares of the
    picture's size; NaN where there is none.
    """
    grey = pictures.mean(axis=1)
    _, height, width = grey.shape
    inner = np.zeros((height, width), bool)
    inner[1:-1, 1:-1] = True
    border = np.sort(grey[:, ~inner], axis=1)
    ink = np.abs(grey - border[:, border.shape[1] // 2, None, None])
    total = ink.sum(axis=(1, 2))
    found = {"brightness": grey.mean(axis=(1, 2)), "contrast": grey.std(axis=(1, 2))}
    for name, shares, size in (("x", ink.sum(axis=1), width), ("y", ink.sum(axis=2), height)):
        places = (np.arange(size) + 0.5) / size
        weights = shares / np.where(total, total, np.nan)[:, None]
        centre = weights @ places
        found[f"centre_{name}"] = centre
        found[f"spread_{name}"] = np.sqrt(np.maximum(0, weights @ places**2 - centre**2))
    return found


def _usual(values: Array) -> Range:
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, [TAIL, 1 - TAIL])
    return float(f"{low:.4g}"), float(f"{high:.4g}")


def _slider(values: Array) -> Slider:
    low, high = float(values.min()), float(values.max())
    whole = bool(np.abs(values - values.round()).max() < 1e-2)
    if whole:
        return {"low": round(low), "high": round(high), "whole": True}
    return {"low": float(f"{low:.6g}"), "high": float(f"{high:.6g}"), "whole": False}
