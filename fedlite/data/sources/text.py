"""The ``text`` source: texts and their classes from csv, tsv, json lines or parquet."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean_file
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import Array, RawData, input_columns, label_column, root_path
from fedlite.serve.texts import TABLES, Columns, column, joined, read_table

KINDS = "csv, tsv or jsonl (each also with .gz), or parquet"
_WHOLE = re.compile(r"-?\d{1,18}")  # a label that is a number, as a csv has it


def read(config: DatasetOptions) -> RawData:
    """Read texts and labels by the names of their columns.

    ``dataset.root`` is a file, or a folder in which ``dataset.files`` names ``train``;
    ``dataset.files.test`` lies in the same folder. ``dataset.keys``: ``inputs`` (a column of text,
    or several, which are put one after the other), ``labels``, and optionally ``groups``.
    Everything in a csv is text as it stands: a cell that says NA is no missing value. The class
    names are sorted, or given.

    Raises:
        UsageError: no such file or column, an empty label, or a file that cannot be read.
    """
    root = root_path(config)
    folder = root if root.is_dir() else root.parent
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
        columns=tuple(input_columns(config)),
        text=True,
    )
    if not named["test"]:
        return raw
    test = folder / named["test"]
    table = _read(test)
    return replace(
        raw,
        inputs_test=_texts(table, config, test),
        labels_test=_labels(table, config, test),
    )


def _texts(table: Columns, config: DatasetOptions, path: Path) -> Array:
    return _objects(joined(table, input_columns(config), path, "dataset.keys.inputs"))


def _labels(table: Columns, config: DatasetOptions, path: Path) -> Array:
    name = label_column(config)
    found = _objects(column(table, name, path, "dataset.keys.labels"))
    if empty := sum(one is None or one == "" for one in found):
        raise UsageError(f"{path}: column {name!r}: {empty} rows are empty; fill or remove them")
    whole = all(isinstance(one, str) and _WHOLE.fullmatch(one) for one in found)
    return found.astype(np.int64) if whole else found


def _objects(values: Sequence[Any]) -> Array:
    found = np.empty(len(values), dtype=object)  # an array of text has all cells of one length
    found[:] = list(values)
    return found


def _read(path: Path) -> Columns:
    """All columns of a file, by name."""
    if not path.is_file():
        hint = did_you_mean_file(path) or ";"
        raise UsageError(f"{path}: no such file{hint} check dataset.root and dataset.files")
    if path.name.lower().endswith(TABLES):
        return read_table(path)
    raise UsageError(f"{path}: of unknown kind; expected {KINDS}")
