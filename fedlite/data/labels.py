"""Labels as users have them, numbered 0..k-1; the names keep what each number stood for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import UsageError

Array = NDArray[Any]
Codes = NDArray[np.int64]

MANY = 50  # classes; more of them must repeat, or they are no classes
SHOWN = 5  # names in a message


@dataclass(frozen=True, eq=False)
class Classes:
    """Labels as places among the names: ``train`` (n,), ``test`` (m,) or None.

    ``notes`` are lines on what a user may not have meant.
    """

    names: tuple[str, ...]
    train: Codes
    test: Codes | None
    notes: tuple[str, ...] = ()


def number_labels(
    train: Array,
    test: Array | None,
    counts: tuple[int, int],
    where: str,
    *,
    given: Sequence[str] | None = None,
    named: Sequence[str] | None = None,
) -> Classes:
    """Number labels of any kind: text, booleans, whole numbers from anywhere, with gaps.

    Without names a class is each value that occurs in ``train``, in sorted order, under its own
    name. With names, labels are names, or places (0, 1, ...), or as many different whole numbers
    as there are names, which then take the names in their order.

    Args:
        train: (n,) or (n, 1), as the source has them.
        test: (m,) or (m, 1), or None.
        counts: n and m.
        where: the data set, for errors.
        given: names from ``dataset.class_names``.
        named: names from the source.

    Raises:
        UsageError: one-hot, multi-label, missing or fractional labels; labels that no name has;
            test labels that do not occur in training; values that are no classes; a single class.
    """
    first = _column(train, counts[0], f"{where}, training labels")
    second = None if test is None else _column(test, counts[1], f"{where}, test labels")
    if second is not None and first.dtype.kind != second.dtype.kind:
        common = str if "U" in (first.dtype.kind, second.dtype.kind) else np.int64
        first, second = first.astype(common), second.astype(common)
    names: Sequence[str] | None = given if given is not None else named
    notes: list[str] = []
    if names is None:
        values = _occurring(first, where, notes)
        places = {value: place for place, value in enumerate(values)}
        names = tuple(map(str, values))
        unknown = (
            f"does not occur in the training labels ({_some(names)}); give dataset.class_names, or"
            " leave such examples out"
        )
    else:
        whole = first if second is None else np.concatenate([first, second])
        places = _named_places(whole, tuple(names), given is not None, where, notes)
        _check_count(first, names, given, named, where)
        unknown = f"is not among the classes ({_some(names)})"
    codes = _codes(first, places, f"{where}, training labels", unknown)
    test_codes = second
    if second is not None:
        test_codes = _codes(second, places, f"{where}, test labels", unknown)
    if (codes == codes[0]).all():
        raise UsageError(
            f"{where}: fewer than 2 classes in the training labels (all are {names[int(codes[0])]})"
        )
    alone = np.flatnonzero(np.bincount(codes, minlength=len(names)) == 1)
    if len(alone):
        few = _some([names[int(place)] for place in alone])
        notes.append(
            f"{where}: {few} has one training example alone,"
            " which cannot be public, private and judged at once; leave it out or collect more"
        )
    return Classes(tuple(names), codes, test_codes, tuple(notes))


def _column(labels: Array, count: int, where: str) -> Array:
    """Labels (n,) as int64, bool or text.

    Raises:
        UsageError: they are no column of labels.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and len(labels) == count:
        raise UsageError(f"{where}: shape {labels.shape} {_matrix(labels)}")
    if labels.shape != (count,):
        raise UsageError(f"{where}: shape {labels.shape}, but there are {count} inputs")
    match labels.dtype.kind:
        case "b":
            return labels
        case "i" | "u":
            return labels.astype(np.int64)
        case "f":
            return _whole(labels, where)
        case "S":
            return np.char.strip(np.char.decode(labels, "utf-8", "replace"))
        case "U":
            return _text(labels, where)
        case "O":
            return _objects(labels, where)
    raise UsageError(f"{where}: values of type {labels.dtype} are no classes; give numbers or text")


def _matrix(labels: Array) -> str:
    """What a matrix of labels is, and what to give instead."""
    if labels.dtype.kind in "biuf" and np.isin(labels, (0, 1)).all():
        wrong = np.flatnonzero(labels.sum(axis=1) != 1)
        if len(wrong) == 0:
            return "is one-hot; give one class for each example: labels.argmax(axis=1)"
        classes = int(labels[wrong[0]].sum())
        return (
            f"is multi-label (example {wrong[0]} has {classes} classes); fedlite learns one class"
            " for each example: train one run for each label"
        )
    return "has several values for each example; give one class for each"


def check_full(values: Array, where: str) -> None:
    """Refuse missing values: None, NaN, and text of nothing but spaces.

    Args:
        values: (n,) of any type.
        where: the data set and the part, for the error.

    Raises:
        UsageError: says how many are missing, and which is the first.
    """
    match values.dtype.kind:
        case "O":
            _check_missing(np.array([_is_missing(one) for one in values], dtype=bool), where)
        case "f":
            _check_missing(np.isnan(values), where)
        case "U" | "S":
            _check_missing(np.char.strip(values) == values.dtype.type(), where)


def _is_missing(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _whole(labels: Array, where: str) -> Array:
    _check_missing(np.isnan(labels), where)
    broken = labels != np.floor(labels)
    if broken.any() or not np.isfinite(labels).all():
        value = labels[np.flatnonzero(broken | ~np.isfinite(labels))[0]]
        raise UsageError(
            f"{where}: {value:g} is a measurement, not a class, and fedlite learns classes; divide"
            " the values into ranges first, 0, 1, ..."
        )
    return labels.astype(np.int64)


def _text(labels: Array, where: str) -> Array:
    stripped: Array = np.char.strip(labels)
    _check_missing(stripped == "", where)
    return stripped


def _objects(labels: Array, where: str) -> Array:
    """Objects of one kind as an array of that kind; of several kinds as text."""
    _check_missing(np.array([one is None or one != one for one in labels], dtype=bool), where)
    if any(isinstance(one, list | tuple | set | dict | np.ndarray) for one in labels):
        raise UsageError(
            f"{where}: are multi-label (a list for each example); fedlite learns one class for each"
            " example"
        )
    kinds = {np.asarray(one).dtype.kind for one in labels}
    if kinds <= {"i", "u", "f"}:
        return _whole(labels.astype(np.float64), where)
    if kinds == {"b"}:
        return labels.astype(bool)
    return _text(labels.astype(str), where)


def _check_missing(missing: NDArray[np.bool_], where: str) -> None:
    if missing.any():
        first = np.flatnonzero(missing)[0]
        raise UsageError(
            f"{where}: {missing.sum()} of {len(missing)} are missing (the first is example"
            f" {first}); fill or remove them"
        )


def _occurring(labels: Array, where: str, notes: list[str]) -> list[Any]:
    """The different labels in sorted order.

    Raises:
        UsageError: they hardly repeat.
    """
    values: list[Any] = np.unique(labels).tolist()
    if len(values) > MANY and 2 * len(values) > len(labels):
        raise UsageError(
            f"{where}, training labels: {len(values):,} different values in {len(labels):,}"
            f" examples ({_some(values)}) are an id or a measurement, not classes; name another"
            " column or array of labels"
        )
    if -1 in values and len(values) > 2:
        notes.append(
            f"{where}: label -1 is taken for a class of its own; where it marks examples without a"
            " label, remove them"
        )
    return values


def _named_places(
    labels: Array, names: tuple[str, ...], given: bool, where: str, notes: list[str]
) -> dict[Any, int]:
    """Which place among ``names`` each value of ``labels`` stands for.

    Whole numbers are places in a source's own list of names. In a list that the user gave
    (``given``) they are names where all of them are among it.
    """
    by_name = {name: place for place, name in enumerate(names)}
    values = np.unique(labels).tolist()
    if labels.dtype.kind == "U" or (given and all(str(value) in by_name for value in values)):
        return {value: by_name[str(value)] for value in values if str(value) in by_name}
    if values[0] >= 0 and values[-1] < len(names):
        return {value: int(value) for value in values}
    if all(str(value) in by_name for value in values):
        return {value: by_name[str(value)] for value in values}
    if len(values) == len(names):
        pairs = [f"{value} is {name}" for value, name in zip(values, names, strict=True)]
        notes.append(f"{where}: class names are taken in the order of the labels: {_some(pairs)}")
        return {value: place for place, value in enumerate(values)}
    wrong = values[0] if values[0] < 0 else values[-1]
    raise UsageError(
        f"{where}: label {wrong} is out of range; {len(names)} classes allow 0 to"
        f" {len(names) - 1}, or their names"
    )


def _check_count(
    labels: Array,
    names: Sequence[str],
    given: Sequence[str] | None,
    named: Sequence[str] | None,
    where: str,
) -> None:
    """More names than the source has, or than labels count up to, are a mistake."""
    if given is None or labels.dtype.kind == "U":
        return
    classes = len(named) if named is not None else max(int(labels.max()) + 1, len(set(labels)))
    if len(names) > classes:
        raise UsageError(
            f"dataset.class_names: {len(names)} names, but {where} has {classes} classes"
        )


def _codes(labels: Array, places: dict[Any, int], where: str, unknown: str) -> Codes:
    values, inverse = np.unique(labels, return_inverse=True)
    codes = np.array([places.get(value, -1) for value in values.tolist()], dtype=np.int64)
    if (codes < 0).any():
        value, count = values[codes < 0][0], int((codes[inverse] < 0).sum())
        raise UsageError(f"{where}: label {value} {unknown}; {count} of {len(labels)} examples")
    return np.require(codes[inverse], requirements=["C", "W"])


def _some(values: Sequence[Any]) -> str:
    """The first few of them, and that there are more."""
    shown = ", ".join(str(value) for value in values[:SHOWN])
    return f"{shown}, ..." if len(values) > SHOWN else shown
