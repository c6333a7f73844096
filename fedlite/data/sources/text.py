"""The ``text`` source: texts and their classes from csv, tsv, json lines or parquet."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import Array, RawData, root_path
from fedlite.serve.texts import TABLES, Columns, column, joined, read_table

KINDS = "csv, tsv or jsonl (each also with .gz), or parquet"
_WHOLE = re.compile(r"-?\d{1,18}")  # a label that is a number, as a csv has it


def read(config: DatasetOptions) -> RawData:
    """Read texts and labels by the names of their columns.

    ``dataset.root`` is a file, or a folder in which ``dataset.files`` names ``train`` and, if there
    is one, ``test``. ``dataset.keys``: ``inputs`` (a column of text, or several, which are put one
    after the other), ``labels``, and optionally ``groups``. Everything in a csv is text as it
    stands: a cell that says NA is no missing value. The class names are sorted, or given.

    Raises:
        UsageError: no such file or column, an empty label, or a file that cannot be read.
    """
    root = root_path(config)
    named = {part: config.files.get(part) for part in ("train", "test")}
    if root.is_dir() and not named["train"]:
        raise UsageError(
            f"dataset.root={root}: a folder; name the file in it with dataset.files.train"
        )
    train = root / named["train"] if root.is_dir() and named["train"] else root
    table = _read(train)
    groups = config.keys.get("groups")
    raw = RawData(
        inputs_train=_texts(table, config, train),
        labels_train=_labels(table, config, train),
        groups=_objects(column(table, groups, train, "dataset.keys.groups")) if groups else None,
        columns=tuple(_names(config)),
        text=True,
    )
    if not (root.is_dir() and named["test"]):
        return raw
    test = root / named["test"]
    table = _read(test)
    return replace(
        raw,
        inputs_test=_texts(table, config, test),
        labels_test=_labels(table, config, test),
    )


def _texts(table: Columns, config: DatasetOptions, path: Path) -> Array:
    return _objects(joined(table, _names(config), path, "dataset.keys.inputs"))


def _names(config: DatasetOptions) -> list[str]:
    names = [name.strip() for name in config.keys.get("inputs", "").split(",") if name.strip()]
    if not names:
        raise UsageError("dataset.keys.inputs: missing; name the column, or columns, of text")
    return names


def _labels(table: Columns, config: DatasetOptions, path: Path) -> Array:
    name = config.keys.get("labels")
    if not name:
        raise UsageError("dataset.keys.labels: missing; name the label column")
    found = column(table, name, path, "dataset.keys.labels")
    if empty := sum(one is None or one == "" for one in found):
        raise UsageError(f"{path}: column {name!r}: {empty} rows are empty; fill or remove them")
    labels = np.array([str(one) for one in found])
    return labels.astype(np.int64) if all(map(_WHOLE.fullmatch, labels)) else labels


def _objects(values: Sequence[Any]) -> Array:
    found = np.empty(len(values), dtype=object)  # an array of text has all cells of one length
    found[:] = list(values)
    return found


def _read(path: Path) -> Columns:
    """All columns of a file, by name."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; check dataset.root and dataset.files")
    if path.name.lower().endswith(TABLES):
        return read_table(path)
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    raise UsageError(f"{path}: of unknown kind; expected {KINDS}")


def _parquet(path: Path) -> Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise UsageError(f"{path}: no parquet file, or damaged") from error
    return {name: table.column(name).to_pylist() for name in table.column_names}
