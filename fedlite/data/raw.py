"""Raw examples as a source hands them over, and the checks that every source must pass."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import UsageError
from fedlite.data.options import SOURCES, DatasetOptions

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class RawData:
    """Examples before any split: inputs (n, *input_shape), labels (n,), groups (n,) or None.

    ``groups`` is the natural id (person, writer, device) of each training example.
    ``scale`` is what inputs are divided by; None means 255 for 8-bit inputs and 1 for others.
    """

    inputs_train: Array
    labels_train: Array
    inputs_test: Array | None = None
    labels_test: Array | None = None
    groups: Array | None = None
    class_names: tuple[str, ...] | None = None
    scale: float | None = None


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
        raise UsageError(
            f"dataset.root={config.root}: no such path; give the folder of {config.name},"
            " or set the environment variable FEDLITE_DATA to the folder that holds the data sets"
        )
    return root


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

    Inputs become uint8 or float32, labels int64, groups int64 codes 0.. in sorted order of the
    ids, class names and scale are filled in.

    Raises:
        UsageError: inputs that are no numbers, NaN or inf; lengths or shapes that do not agree;
            labels that are no integers or out of range; fewer than two classes; class names of a
            wrong count.
    """
    where = f"dataset {config.name}"
    if (raw.inputs_test is None) != (raw.labels_test is None):
        raise UsageError(f"{where}: a test part needs both inputs and labels")
    inputs_train = _inputs(raw.inputs_train, f"{where}, training inputs")
    labels_train = _labels(raw.labels_train, len(inputs_train), f"{where}, training labels")
    inputs_test = labels_test = None
    if raw.inputs_test is not None and raw.labels_test is not None:
        inputs_test = _inputs(raw.inputs_test, f"{where}, test inputs")
        labels_test = _labels(raw.labels_test, len(inputs_test), f"{where}, test labels")
        _check_same_kind(inputs_train, inputs_test, where)
    names = _class_names(raw, config, labels_train, where)
    for part, labels in (("training", labels_train), ("test", labels_test)):
        if labels is not None and labels.max() >= len(names):
            raise UsageError(
                f"{where}, {part} labels: label {labels.max()} is out of range;"
                f" {len(names)} classes allow 0 to {len(names) - 1}"
            )
    return replace(
        raw,
        inputs_train=inputs_train,
        labels_train=labels_train,
        inputs_test=inputs_test,
        labels_test=labels_test,
        groups=None if raw.groups is None else _groups(raw.groups, len(labels_train), where),
        class_names=names,
        scale=raw.scale or (255.0 if inputs_train.dtype == np.uint8 else 1.0),
    )


def _inputs(inputs: Array, where: str) -> Array:
    if inputs.dtype.kind not in "biuf":
        raise UsageError(f"{where}: values of type {inputs.dtype} are no numbers of equal shape")
    if inputs.ndim < 2 or inputs.size == 0:
        raise UsageError(f"{where}: shape {inputs.shape} holds no examples; expected (n, ...)")
    if inputs.dtype != np.uint8:
        with np.errstate(over="ignore"):
            inputs = inputs.astype(np.float32, copy=False)
        bad = np.flatnonzero(~np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1))
        if len(bad):
            raise UsageError(
                f"{where}: {len(bad)} of {len(inputs)} examples hold NaN or infinite values"
                f" (the first is example {bad[0]}); remove or fill them"
            )
    return np.require(inputs, requirements=["C", "W"])


def _labels(labels: Array, count: int, where: str) -> Array:
    if labels.shape != (count,):
        raise UsageError(f"{where}: shape {labels.shape}, but there are {count} inputs")
    if labels.dtype.kind not in "biu":
        raise UsageError(f"{where}: values of type {labels.dtype}; expected integers 0, 1, ...")
    if labels.min() < 0:
        raise UsageError(f"{where}: label {labels.min()} is out of range; the lowest is 0")
    return np.require(labels, dtype=np.int64, requirements=["C", "W"])


def _check_same_kind(train: Array, test: Array, where: str) -> None:
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise UsageError(
            f"{where}: training inputs are {train.dtype} of shape {train.shape[1:]},"
            f" test inputs {test.dtype} of shape {test.shape[1:]}; they must be the same"
        )


def _class_names(
    raw: RawData, config: DatasetOptions, labels: Array, where: str
) -> tuple[str, ...]:
    """Names from the configuration, else from the source, else the class numbers."""
    classes = int(labels.max()) + 1
    if config.class_names is not None:
        names = tuple(config.class_names)
        expected = classes if raw.class_names is None else len(raw.class_names)
        if len(names) > expected:
            raise UsageError(
                f"dataset.class_names: {len(names)} names, but {where} has {expected} classes"
            )
    elif raw.class_names is not None:
        names = raw.class_names
    else:
        present = np.bincount(labels)
        if (present == 0).any():
            raise UsageError(
                f"{where}, training labels: class {present.argmin()} has no example; labels must"
                f" be 0 to {classes - 1} without gaps, unless dataset.class_names names all classes"
            )
        names = tuple(str(index) for index in range(classes))
    if (labels == labels[0]).all():
        raise UsageError(f"{where}: fewer than 2 classes in the training labels")
    return names


def _groups(groups: Array, count: int, where: str) -> Array:
    if groups.shape != (count,):
        raise UsageError(f"{where}: natural ids have shape {groups.shape} for {count} examples")
    if groups.dtype.kind == "O":
        groups = groups.astype(str)
    codes: Array = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return codes
