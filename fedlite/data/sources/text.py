"""The ``text`` source: texts and their classes from csv, tsv, json lines or parquet."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import Array, RawData, root_path

LONGEST_CELL = 2**31 - 1  # characters
KINDS = "csv, tsv, jsonl (each also with .gz) or parquet"
BETWEEN = " \n "  # two columns of one text

Columns = Mapping[str, Sequence[Any]]


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
    columns = _columns(train)
    groups = config.keys.get("groups")
    raw = RawData(
        inputs_train=_texts(columns, config, train),
        labels_train=_labels(columns, config, train),
        groups=_column(columns, groups, "groups", train) if groups else None,
        text=True,
    )
    if not (root.is_dir() and named["test"]):
        return raw
    test = root / named["test"]
    columns = _columns(test)
    return replace(
        raw,
        inputs_test=_texts(columns, config, test),
        labels_test=_labels(columns, config, test),
    )


def _texts(columns: Columns, config: DatasetOptions, path: Path) -> Array:
    names = [name.strip() for name in config.keys.get("inputs", "").split(",") if name.strip()]
    if not names:
        raise UsageError("dataset.keys.inputs: missing; name the column, or columns, of text")
    parts = [_column(columns, name, "inputs", path) for name in names]
    for name, part in zip(names, parts, strict=True):
        if wrong := next((one for one in part if not isinstance(one, str)), None):
            raise UsageError(
                f"{path}: column {name!r} holds {type(wrong).__name__} beside text; give text alone"
            )
    return _objects([BETWEEN.join(some) for some in zip(*parts, strict=True)])


def _labels(columns: Columns, config: DatasetOptions, path: Path) -> Array:
    name = config.keys.get("labels")
    if not name:
        raise UsageError("dataset.keys.labels: missing; name the label column")
    found = _column(columns, name, "labels", path)
    if empty := sum(one is None or one == "" for one in found):
        raise UsageError(f"{path}: column {name!r}: {empty} rows are empty; fill or remove them")
    return np.array([str(one) for one in found])


def _column(columns: Columns, name: str, role: str, path: Path) -> Array:
    if name not in columns:
        raise UsageError(
            f"{path}: no column {name!r} (dataset.keys.{role}); has {', '.join(columns)}"
        )
    return _objects(columns[name])


def _objects(values: Sequence[Any]) -> Array:
    found = np.empty(len(values), dtype=object)  # an array of text has all cells of one length
    found[:] = list(values)
    return found


def _columns(path: Path) -> Columns:
    """All columns of a file, by name."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; check dataset.root and dataset.files")
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith((".csv", ".tsv")):
            return _table(path, "\t" if name.endswith(".tsv") else ",")
        if name.endswith((".jsonl", ".json")):
            return _records(path)
        if name.endswith(".parquet"):
            return _parquet(path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); expected {KINDS} in UTF-8") from error
    raise UsageError(f"{path}: of unknown kind; expected {KINDS}")


def _lines(path: Path) -> Iterator[str]:
    """Lines, unzipped; without the mark that some programs begin files with."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield from file


def _table(path: Path, delimiter: str) -> Columns:
    csv.field_size_limit(LONGEST_CELL)
    rows = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    header = next(rows, [])
    if len(set(header)) < len(header):
        raise UsageError(f"{path}: two columns have one name; rename one of {', '.join(header)}")
    found: list[list[str]] = []
    for row in rows:
        if not row:
            continue
        if len(row) != len(header):
            raise UsageError(
                f"{path}: row {len(found) + 1} has {len(row)} cells, the first line {len(header)};"
                " put texts with commas or line breaks in double quotes"
            )
        found.append(row)
    return {name: [row[place] for row in found] for place, name in enumerate(header)}


def _records(path: Path) -> Columns:
    found: dict[str, list[Any]] = {}
    count = 0
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise UsageError(f"{path}: line {number} is no JSON object; expected one a line")
        for name in record.keys() - found.keys():
            found[name] = [None] * count
        for name, values in found.items():
            values.append(record.get(name))
        count += 1
    return found


def _parquet(path: Path) -> Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise UsageError(f"{path}: no parquet file, or damaged") from error
    return {name: table.column(name).to_pylist() for name in table.column_names}
