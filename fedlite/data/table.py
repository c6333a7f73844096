"""A table as examples: which columns are inputs, which label, and what of it cannot be learnt."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean
from fedlite.data.inputs import counts_examples, named_as_id
from fedlite.data.options import DatasetOptions
from fedlite.data.raw import Array, RawData, label_column, listed
from fedlite.data.table_files import Table
from fedlite.serve.dialect import is_number

MOSTLY = 0.5  # share of a text column's cells that are numbers: then the others are mistakes
SHOWN = 5  # columns in a message


def examples_of(config: DatasetOptions, train: Table, test: Table | None) -> RawData:
    """The examples of a table with a row for each.

    ``dataset.keys``: ``labels``, optionally ``groups``, and ``inputs``, a comma-separated list of
    columns of numbers. Without that list, inputs are all columns of numbers but ``labels``,
    ``groups``, those named in ``leave_out``, and ids; what else is left out is said.

    Raises:
        UsageError: a column that is not there, or has cells that are missing or no numbers.
    """
    keys, notes = config.keys, list(train.notes)
    label, groups = label_column(config), keys.get("groups") or None
    _check_there(train, [label], "labels")
    _check_there(train, [groups] if groups else [], "groups")
    columns = listed(config, "inputs")
    if columns:
        _check_there(train, columns, "inputs")
    else:
        unused = listed(config, "leave_out")
        _check_there(train, unused, "leave_out")
        columns = _chosen(train, {label, groups, *unused}, notes)
    raw = RawData(
        inputs_train=_numbers(train, columns),
        labels_train=_plain(train, label),
        groups=_plain(train, groups) if groups else None,
        columns=tuple(columns),
        notes=tuple(notes),
    )
    if test is None:
        return raw
    _check_there(test, [label], "labels")
    _check_there(test, columns, "inputs")
    return replace(raw, inputs_test=_numbers(test, columns), labels_test=_plain(test, label))


def _check_there(table: Table, columns: Sequence[str], key: str) -> None:
    for name in columns:
        if name not in table.data.column_names:
            has = ", ".join(table.data.column_names)
            hint = did_you_mean(name, table.data.column_names) or ";"
            raise UsageError(f"dataset.keys.{key}: no column {name!r}{hint} the table has {has}")


def _chosen(table: Table, used: set[str | None], notes: list[str]) -> list[str]:
    """The columns that can be inputs, of all that nobody named; others are noted.

    Raises:
        UsageError: there is none.
    """
    candidates = [name for name in table.data.column_names if name not in used]
    kinds: dict[str, Callable[[Table, str], bool]] = {
        "text": _is_text,
        "dates": _is_date,
        "ids": _is_id,
    }
    left: dict[str, list[str]] = {}
    for kind, holds in kinds.items():
        left[kind] = [name for name in candidates if holds(table, name)]
        candidates = [name for name in candidates if name not in left[kind]]
    if left["text"]:
        notes.append(
            f"{_columns(left['text'])} of text: left out; encode it as numbers, or learn from the"
            " text itself with dataset=text"
        )
    if left["dates"]:
        notes.append(
            f"{_columns(left['dates'])} of dates: left out; give a number, such as days since a"
            " first date, to learn from it"
        )
    if left["ids"]:
        notes.append(
            f"{_columns(left['ids'])} left out as an id (whole numbers that name an example or its"
            " owner); list it in dataset.keys.inputs if it is a quantity"
        )
    if not candidates:
        held = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in left.items() if names)
        held = held or "no other column"
        advice = "for texts give dataset=text; " if left["text"] else ""
        raise UsageError(
            f"{table.files[0][0]}: no column of numbers to learn from ({held});"
            f" {advice}encode columns as numbers, or name some in dataset.keys.inputs"
        )
    return candidates


def _columns(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:SHOWN])
    more = ", ..." if len(names) > SHOWN else ""
    return f"column{'s' if len(names) > 1 else ''} {shown}{more}"


def _is_text(table: Table, name: str) -> bool:
    return _holds_text(table.data.column(name)) and _number_share(table.data.column(name)) < MOSTLY


def _is_date(table: Table, name: str) -> bool:
    return bool(pa.types.is_temporal(table.data.column(name).type))


def _is_id(table: Table, name: str) -> bool:
    """Whole numbers of which no two are equal, or under the name of an id."""
    column = table.data.column(name)
    if not pa.types.is_integer(column.type) or column.null_count:
        return False
    return named_as_id(name) or counts_examples(column.to_numpy())


def _holds_text(column: pa.ChunkedArray) -> bool:
    return bool(
        pa.types.is_string(column.type)
        or pa.types.is_large_string(column.type)
        or pa.types.is_dictionary(column.type)
    )


def _number_share(column: pa.ChunkedArray) -> float:
    cells = column.drop_null().to_pylist()
    return sum(map(is_number, cells)) / max(1, len(cells))


def _numbers(table: Table, columns: Sequence[str]) -> Array:
    """The columns as inputs (n, F) float32.

    Raises:
        UsageError: names the column, and the first cell that is missing or no number.
    """
    found = np.empty((table.data.num_rows, len(columns)), dtype=np.float32)
    for place, name in enumerate(columns):
        column = table.data.column(name)
        _check_full(table, name)
        kind = column.type
        if _holds_text(column):
            column = _read_as_numbers(table, name)
            kind = column.type
        if pa.types.is_temporal(kind):
            raise UsageError(
                f"column {name!r} holds dates, which cannot be an input; give a number, such as"
                " days since a first date"
            )
        if not (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_decimal(kind)
        ):
            raise UsageError(
                f"column {name!r} holds values of type {kind}, not one number in each row; arrays"
                " and images are read by dataset=huggingface"
            )
        with np.errstate(over="ignore"):
            found[:, place] = pc.cast(column, pa.float64()).to_numpy().astype(np.float32)
    return found


def _read_as_numbers(table: Table, name: str) -> pa.ChunkedArray:
    """A column of text of which every cell is a number.

    Raises:
        UsageError: one is not.
    """
    cells = table.data.column(name).to_pylist()
    if not all(map(is_number, cells)):
        raise UsageError(_why_no_numbers(table, name))
    return pa.chunked_array([pa.array([float(cell) for cell in cells], pa.float64())])


def _check_full(table: Table, name: str) -> None:
    column = table.data.column(name)
    if column.null_count:
        first = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise UsageError(
            f"column {name!r}: {column.null_count} of {len(column)} cells are empty (the first in"
            f" {table.place(first)}); fill them, remove the rows, or leave the column out"
        )


def _why_no_numbers(table: Table, name: str) -> str:
    cells = table.data.column(name).to_pylist()
    wrong = [row for row, cell in enumerate(cells) if not is_number(cell)]
    if 1 - len(wrong) / len(cells) >= MOSTLY:
        return (
            f"column {name!r}: {len(wrong)} of {len(cells)} cells are no numbers (the first is"
            f" {cells[wrong[0]]!r} in {table.place(wrong[0])}); correct or remove them"
        )
    return (
        f"column {name!r} holds text, which is an input of its own (dataset=text); encode it as"
        " numbers, or leave the column out"
    )


def _plain(table: Table, name: str) -> Array:
    """A column (n,) of labels or ids as it is.

    Raises:
        UsageError: it has empty cells.
    """
    _check_full(table, name)
    column = table.data.column(name)
    if pa.types.is_temporal(column.type):
        column = pc.cast(column, pa.string())
    if pa.types.is_decimal(column.type):
        column = pc.cast(column, pa.float64())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return np.asarray(column.to_numpy())
    values = column.to_pylist()
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
