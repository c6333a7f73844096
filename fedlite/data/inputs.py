"""Inputs as a source hands them over: what is refused, and what a user is told of them."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions

Array = NDArray[Any]

COLOURS = (1, 3, 4)  # channels of an image
SPARSE = 0.25  # share of features from which on a hint is worth a line
SOME = 1000  # examples that show whether a feature is sparse, or repeats itself
FEW = 10  # examples: of fewer, all values of a column may well differ
SHOWN = 5  # features in a message
_ID = re.compile(r"(^|[^a-z])id$|^(index|unnamed: 0)?$", re.IGNORECASE)
_CAMEL_ID = re.compile(r"[a-z]I[dD]$")


def check_inputs(inputs: Array, where: str, columns: Sequence[str] | None = None) -> Array:
    """Inputs (n, ...) as uint8 or float32, contiguous and writable.

    Args:
        inputs: as the source has them.
        where: the data set and the part, for errors.
        columns: names of the features of inputs (n, F).

    Raises:
        UsageError: values that are no numbers, no examples, NaN or infinite values.
    """
    if inputs.dtype.kind not in "biuf":
        raise UsageError(f"{where}: values of type {inputs.dtype} are no numbers of equal shape")
    if inputs.ndim < 2 or inputs.size == 0:
        raise UsageError(f"{where}: shape {inputs.shape} holds no examples; expected (n, ...)")
    if inputs.dtype != np.uint8:
        with np.errstate(over="ignore"):
            inputs = inputs.astype(np.float32, copy=False)
        bad = np.flatnonzero(~np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1))
        if len(bad):
            place = ""
            if inputs.ndim == 2:
                feature = int(np.flatnonzero(~np.isfinite(inputs[bad[0]]))[0])
                place = f", in {_name(feature, columns)}"
            raise UsageError(
                f"{where}: {len(bad)} of {len(inputs)} examples hold NaN or infinite values"
                f" (the first is example {bad[0]}{place}); remove or fill them"
            )
    return np.require(inputs, requirements=["C", "W"])


def check_texts(texts: Array, where: str) -> Array:
    """Texts (n,), as objects; an empty one is a text.

    Raises:
        UsageError: something else than text, or no examples.
    """
    if texts.ndim != 1 or len(texts) == 0:
        raise UsageError(f"{where}: shape {texts.shape} holds no texts; expected (n,)")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(
                f"{where}: example {place} is {type(text).__name__}, not text; give texts alone"
            )
    return texts.astype(object)


def input_notes(
    inputs: Array, options: DatasetOptions, where: str, columns: Sequence[str] | None = None
) -> Iterator[str]:
    """Lines on what a user may not have meant: ids among features, constant or sparse ones, another
    layout.

    Args:
        inputs: (n, F), (n, C, L) or (n, C, H, W), checked.
        options: how they were arranged and will be standardised.
        where: the data set.
        columns: names of the features of inputs (n, F).
    """
    if inputs.ndim == 2:
        yield from _feature_notes(inputs, options.standardise == "standard", where, columns)
    elif inputs.ndim == 3:
        yield from _series_notes(inputs.shape[1:], options.layout, where)


def named_as_id(name: str) -> bool:
    """Whether a column of this name counts examples or names their owners."""
    return bool(_ID.search(name) or _CAMEL_ID.search(name))


def counts_examples(values: Array) -> bool:
    """Whether values (n,) are whole numbers of which no two are equal: an id, most likely."""
    if len(values) < FEW or values.dtype.kind not in "iuf":
        return False
    some = values[:SOME]  # which tell of most columns, without sorting all
    if len(np.unique(some)) < len(some) or (values != np.floor(values)).any():
        return False
    return len(np.unique(values)) == len(values)


def _feature_notes(
    inputs: Array, standardised: bool, where: str, columns: Sequence[str] | None
) -> Iterator[str]:
    features = range(inputs.shape[1])
    ids = [one for one in features if counts_examples(inputs[:, one])]
    if columns is not None:
        ids += [
            one
            for one in features
            if named_as_id(columns[one])
            and one not in ids
            and (inputs[:, one] == np.floor(inputs[:, one])).all()
        ]
    if ids:
        yield (
            f"{where}: {_names(sorted(ids), columns)} looks like an id (whole numbers that name an"
            " example or its owner), and is learnt from as a quantity; leave it out of the inputs"
        )
    constant = np.flatnonzero((inputs == inputs[0]).all(axis=0)).tolist()
    if constant:
        yield (
            f"{where}: {len(constant)} of {inputs.shape[1]} features are the same in every training"
            f" example and tell nothing ({_names(constant, columns)})"
        )
    if not standardised:
        return
    quartiles = np.quantile(inputs[:SOME], (0.25, 0.75), axis=0)
    sparse = int((quartiles[0] == quartiles[1]).sum()) - len(constant)
    if sparse >= SPARSE * inputs.shape[1]:
        yield (
            f"{where}: {sparse} of {inputs.shape[1]} features are sparse (most of their values are"
            " equal), and dividing by a small deviation makes outliers of the others; try"
            " dataset.standardise=robust"
        )


def _series_notes(shape: tuple[int, ...], layout: str, where: str) -> Iterator[str]:
    channels, length = shape
    taken = f"{where}: inputs are taken for series of {channels} channels and {length} steps"
    if layout == "channels_first" and channels == length:
        yield f"{taken}; for images without a channel axis give dataset.layout=none"
    elif layout == "channels_first" and channels > 2 * length:
        yield f"{taken}; if channels come last, give dataset.layout=channels_last"
    elif layout == "channels_last" and channels > 2 * length:
        yield f"{taken}; if channels come first, give dataset.layout=channels_first"


def check_image(shape: tuple[int, ...], layout: str, where: str) -> None:
    """Refuse images (C, H, W) of equal sides whose channels are on the other end; others pass.

    Raises:
        UsageError: says which layout to give.
    """
    if len(shape) != 3:
        return
    channels, height, width = shape
    if layout == "channels_first" and channels == height > width and width in COLOURS:
        raise UsageError(
            f"{where}: inputs of shape {shape} would be {channels} channels of {height} by {width}"
            " pixels; channels come last here: give dataset.layout=channels_last"
        )
    if layout == "channels_last" and channels == width > height and height in COLOURS:
        raise UsageError(
            f"{where}: inputs of shape {(height, channels, width)} would be {channels} channels of"
            f" {height} by {width} pixels; channels come first here: give"
            " dataset.layout=channels_first"
        )


def _name(feature: int, columns: Sequence[str] | None) -> str:
    return f"feature {feature}" if columns is None else f"column {columns[feature]!r}"


def _names(features: Sequence[int], columns: Sequence[str] | None) -> str:
    shown = ", ".join(_name(feature, columns) for feature in features[:SHOWN])
    return f"{shown}, ..." if len(features) > SHOWN else shown
