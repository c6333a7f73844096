"""Columns by name out of a CSV file, cell by cell: no row decides how another one is read."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.data.raw import Array

LONGEST_CELL = 2**31 - 1  # characters


def read_columns(path: Path, numbers: Sequence[str], text: str, option: str) -> tuple[Array, Array]:
    """Read a CSV file with a line of column names, in UTF-8.

    Args:
        path: the file.
        numbers: columns of numbers; a cell that is none becomes NaN.
        text: a column that is read as it stands, without spaces around it.
        option: whose ``inputs`` and ``labels`` name the columns, for the error.

    Returns:
        numbers (n, columns) float64, and text (n,).

    Raises:
        UsageError: no such file, no CSV, or a column is not there.
    """
    csv.field_size_limit(LONGEST_CELL)  # a row with a long cell is a row, and no damaged file
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
            table = csv.DictReader(lines)
            header = table.fieldnames or []
            for role, name in [*(("inputs", name) for name in numbers), ("labels", text)]:
                if name not in header:
                    found = ", ".join(header)
                    raise UsageError(f"{path}: no column {name!r} ({option}.{role}); has {found}")
            rows = list(table)
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as CSV ({error})") from error
    values = [[_number(row[name]) for name in numbers] for row in rows]
    words = [(row[text] or "").strip() for row in rows]
    return np.array(values, dtype=np.float64).reshape(-1, len(numbers)), np.array(words, dtype=str)


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return np.nan
