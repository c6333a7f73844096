"""Raw examples as a source hands them over, and the checks that every source must pass."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean_file
from fedlite.data.inputs import check_image, check_inputs, check_texts, input_notes
from fedlite.data.labels import check_full, number_labels
from fedlite.data.options import SOURCES, DatasetOptions
from fedlite.serve.logmel import LogMel

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class RawData:
    """Examples before any split: inputs (n, *input_shape), labels (n,), groups (n,) or None.

    ``groups`` is the natural id (person, writer, device) of each training example.
    ``scale`` is what inputs are divided by; None means 255 for 8-bit inputs and 1 for others.
    With ``text``, inputs are texts (n,), as objects. ``columns`` names the features of inputs
    (n, F), or where the texts were. ``sound`` is what made inputs of recordings. ``notes`` are
    lines on what a user may not have meant.
    """

    inputs_train: Array
    labels_train: Array
    inputs_test: Array | None = None
    labels_test: Array | None = None
    groups: Array | None = None
    class_names: tuple[str, ...] | None = None
    scale: float | None = None
    columns: tuple[str, ...] | None = None
    text: bool = False
    sound: LogMel | None = None
    notes: tuple[str, ...] = ()


def read_raw(config: DatasetOptions) -> RawData:
    """Read and check the examples of ``config``; nothing is split or normalised yet.

    Raises:
        UsageError: the source cannot be read or holds bad values; one line says what and where.
    """
    return check_raw(SOURCES.find(config.source)(config), config)


def root_path(config: DatasetOptions) -> Path:
    """The path ``dataset.root``, which must exist.

    Raises:
        UsageError: it is not given or nothing is there.
    """
    if not config.root:
        raise UsageError(f"dataset.root: missing for dataset {config.name}; give a path")
    root = Path(config.root).expanduser()
    if not root.exists():
        hint = did_you_mean_file(root) or ";"
        raise UsageError(
            f"dataset.root={config.root}: no such path{hint} give the data of {config.name},"
            " or set the environment variable FEDLITE_DATA to the folder that holds the data sets"
        )
    return root


def listed(config: DatasetOptions, key: str) -> list[str]:
    """The names in ``dataset.keys.KEY``, which commas part; empty where there are none."""
    return [name.strip() for name in config.keys.get(key, "").split(",") if name.strip()]


def input_columns(config: DatasetOptions) -> list[str]:
    """The names of the input column or columns.

    Raises:
        UsageError: none is given.
    """
    if columns := listed(config, "inputs"):
        return columns
    raise UsageError("dataset.keys.inputs: missing; name the input column or columns")


def label_column(config: DatasetOptions) -> str:
    """The name of the label column.

    Raises:
        UsageError: it is not given.
    """
    if name := config.keys.get("labels"):
        return name
    raise UsageError("dataset.keys.labels: missing; name the label column")


def arrange(inputs: Array, layout: str) -> Array:
    """Bring inputs into (n, C, H, W), (n, C, L) or (n, F).

    Args:
        inputs: (n, ...) as stored; flat features (n, F) stay as they are in every layout.
        layout: ``channels_first``, ``channels_last``, or ``none`` for inputs without a channel
            axis: (n, H, W) becomes (n, 1, H, W).

    Raises:
        UsageError: the shape is not one that the layout can describe.
    """
    if inputs.ndim == 2:
        return inputs
    if layout == "none" and inputs.ndim == 3:
        return inputs[:, None]
    if layout == "channels_last" and inputs.ndim in (3, 4):
        return np.moveaxis(inputs, -1, 1)
    if layout == "channels_first" and inputs.ndim in (3, 4):
        return inputs
    raise UsageError(
        f"dataset.layout={layout}: does not fit inputs of shape {inputs.shape}; expected"
        " (n, F), (n, C, L) or (n, C, H, W), or channels last, or (n, H, W) with layout none"
    )


def check_raw(raw: RawData, config: DatasetOptions) -> RawData:
    """Check a source's examples and bring them into their final types.

    Inputs become uint8 or float32, labels int64 places among the class names, groups int64 codes
    0.. in sorted order of the ids; class names and scale are filled in.

    Raises:
        UsageError: inputs that are no numbers, NaN or inf; lengths or shapes that do not agree;
            labels that are no classes (:func:`fedlite.data.labels.number_labels`); class names of
            a wrong count.
    """
    where = f"dataset {config.name}"
    if (raw.inputs_test is None) != (raw.labels_test is None):
        raise UsageError(f"{where}: a test part needs both inputs and labels")

    def checked(inputs: Array, part: str) -> Array:
        said = f"{where}, {part} inputs"
        return check_texts(inputs, said) if raw.text else check_inputs(inputs, said, raw.columns)

    inputs_train = checked(raw.inputs_train, "training")
    inputs_test = None
    if raw.inputs_test is not None:
        inputs_test = checked(raw.inputs_test, "test")
        _check_same_kind(inputs_train, inputs_test, where)
    classes = number_labels(
        raw.labels_train,
        raw.labels_test,
        (len(inputs_train), 0 if inputs_test is None else len(inputs_test)),
        where,
        given=config.class_names,
        named=raw.class_names,
    )
    check_image(inputs_train.shape[1:], config.layout, where)
    notes = () if raw.text else input_notes(inputs_train, config, where, raw.columns)
    return replace(
        raw,
        inputs_train=inputs_train,
        labels_train=classes.train,
        inputs_test=inputs_test,
        labels_test=classes.test,
        groups=None if raw.groups is None else _groups(raw.groups, len(classes.train), where),
        class_names=classes.names,
        scale=raw.scale or (255.0 if inputs_train.dtype == np.uint8 else 1.0),
        notes=(*raw.notes, *notes, *classes.notes),
    )


def _check_same_kind(train: Array, test: Array, where: str) -> None:
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise UsageError(
            f"{where}: training inputs are {train.dtype} of shape {train.shape[1:]},"
            f" test inputs {test.dtype} of shape {test.shape[1:]}; they must be the same"
        )


def _groups(groups: Array, count: int, where: str) -> Array:
    if groups.shape != (count,):
        raise UsageError(f"{where}: natural ids have shape {groups.shape} for {count} examples")
    check_full(groups, f"{where}, natural ids")
    if groups.dtype.kind == "O":
        groups = groups.astype(str)
    codes: Array = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return codes
