"""Columns by name out of a CSV file, line by line: no row decides how another one is read."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean
from fedlite.data.raw import Array
from fedlite.serve.dialect import LONGEST_CELL


def read_columns(path: Path, numbers: Sequence[str], text: str, option: str) -> tuple[Array, Array]:
    """Read a CSV file with a line of column names, in UTF-8.

    A line is a row, whatever quotes it opens.

    Args:
        path: the file.
        numbers: columns of numbers; a cell that is none becomes NaN.
        text: a column that is read as it stands, without spaces around it.
        option: whose ``inputs`` and ``labels`` name the columns, for the error.

    Returns:
        numbers (n, columns) float64, and text (n,) as objects.

    Raises:
        UsageError: no such file, no CSV, or a column is not there.
    """
    csv.field_size_limit(LONGEST_CELL)  # a row with a long cell is a row, and no damaged file
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as lines:
            header, *rows = [_cells(line) for line in lines if line.strip()] or [[]]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read as CSV ({error})") from error
    for role, name in [*(("inputs", name) for name in numbers), ("labels", text)]:
        if name not in header:
            hint = did_you_mean(name, header) or ";"
            raise UsageError(
                f"{path}: no column {name!r} ({option}.{role}){hint} has {', '.join(header)}"
            )
    places, place = [header.index(name) for name in numbers], header.index(text)
    values = [[_number(_at(row, one)) for one in places] for row in rows]
    words = np.empty(len(rows), dtype=object)  # an array of text has all cells of one length
    words[:] = [_at(row, place).strip() for row in rows]
    return np.array(values, dtype=np.float64).reshape(-1, len(numbers)), words


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _at(row: Sequence[str], place: int) -> str:
    return row[place] if place < len(row) else ""


def _number(cell: str) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return np.nan
