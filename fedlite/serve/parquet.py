"""Reading parquet: its columns by name, its rows as cells, or the one array that it holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUETS = (".parquet", ".pq")


def is_parquet(path: Path) -> bool:
    """Whether it is one by its name."""
    return path.suffix.lower() in PARQUETS


def read_parquet(path: Path) -> "pa.Table":
    """A parquet file as a table.

    Raises:
        UsageError: it is none, or damaged.
    """
    import pyarrow as pa  # most of what is predicted is no parquet
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"{path}: cannot be loaded; it is damaged, or no parquet file") from error


def rows_of_parquet(table: "pa.Table") -> Iterator[list[str]]:
    """The names of the columns, then the cells of each row as a csv has them."""
    yield list(table.column_names)
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        yield ["" if cell is None else str(cell) for cell in row]


def array_of(table: "pa.Table", path: Path) -> NDArray[Any] | None:
    """The one column that holds an array of numbers in each row, as (n, ...); None if none does.

    Raises:
        UsageError: there are several, or its rows have different shapes.
    """
    import pyarrow as pa

    names = [
        name for name in table.column_names if pa.types.is_nested(table.schema.field(name).type)
    ]
    if not names:
        return None
    if len(names) > 1:
        raise UsageError(
            f"input={path}: columns {', '.join(map(repr, names))} hold arrays; give a file with one"
        )
    try:
        return np.array(table.column(names[0]).to_pylist(), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"input={path}: column {names[0]!r} must hold numbers, as many in each row"
        ) from error
