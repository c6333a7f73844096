"""Texts out of files: tables by the names of their columns, or a text on each line."""

import csv
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean
from fedlite.serve.dialect import lines_of, rows_of
from fedlite.serve.parquet import PARQUETS, is_parquet, read_parquet
from fedlite.serve.tokens import Tokens, encode

BETWEEN = " \n "  # columns of one text
TABLES = (".csv", ".tsv", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz", *PARQUETS)
TEXTS = (".txt", *TABLES)
KINDS_IN_WORDS = "txt (a text on each line), csv, tsv, jsonl or parquet"

Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class TextPreprocessing:
    """How texts become the inputs of a shipped model; ``columns`` held them in the training data.

    The counterpart of :class:`fedlite.serve.preprocessing.Preprocessing` for texts.
    """

    input_shape: tuple[int, ...]
    tokenizer: str
    columns: tuple[str, ...]
    kind: Literal["text"] = "text"

    @property
    def words(self) -> str:
        """What the model takes, in words."""
        return "texts"

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Numbers of tokens (n, length)."""
        return encode(self.tokenizer, texts, *self.input_shape)

    def normalise(self, raw: NDArray[Any]) -> NDArray[Any]:
        """As they are."""
        return raw


def read_texts(path: Path, columns: Sequence[str]) -> list[str]:
    """The texts of one file.

    Args:
        path: of a kind of :data:`TEXTS`.
        columns: which make a text; where they are not there, a file of one column is taken.

    Raises:
        UsageError: it has other columns, or cannot be read.
    """
    if path.suffix.lower() == ".txt":
        try:
            found = [line.strip() for line in lines_of(path) if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot be read as text in UTF-8 ({error})") from error
    else:
        table = read_table(path)
        names = columns if set(columns) <= set(table) or len(table) > 1 else list(table)
        found = joined(table, names, path, "the model's column of text")
    if not found:
        raise UsageError(f"{path}: holds no text")
    return found


def joined(table: Columns, names: Sequence[str], path: Path, role: str) -> list[str]:
    """The texts of some columns, one after the other.

    Raises:
        UsageError: a column is not there, or holds something else than text.
    """
    parts = [column(table, name, path, role) for name in names]
    for name, part in zip(names, parts, strict=True):
        if empty := sum(one is None for one in part):
            raise UsageError(f"{path}: column {name!r}: {empty} rows are empty; fill them")
        if others := {type(one).__name__ for one in part if not isinstance(one, str)}:
            raise UsageError(
                f"{path}: column {name!r} holds {min(others)} beside text; give text alone"
            )
    return [BETWEEN.join(some) for some in zip(*parts, strict=True)]


def column(table: Columns, name: str, path: Path, role: str) -> Sequence[Any]:
    """One column.

    Raises:
        UsageError: it is not there; ``role`` says what asks for it.
    """
    if name not in table:
        hint = did_you_mean(name, table) or ";"
        raise UsageError(f"{path}: no column {name!r} ({role}){hint} has {', '.join(table)}")
    return table[name]


def read_table(path: Path) -> Columns:
    """All columns of a file of a kind of :data:`TABLES`, by name.

    Cells of csv and tsv are text as it stands.

    Raises:
        UsageError: it cannot be read, or its rows do not have as many cells as the first line.
    """
    name = path.name.lower().removesuffix(".gz")
    if is_parquet(path):
        found: Columns = read_parquet(path).to_pydict()
        return found
    try:
        if name.endswith(".jsonl"):
            return _records(path)
        return _table(path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); expected UTF-8") from error


def _table(path: Path) -> Columns:
    _, rows = rows_of(path, strict=True)
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
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise UsageError(f"{path}: line {number} is no JSON object; expected one a line")
        for name in record:  # in the order of the file
            found.setdefault(name, [None] * count)
        for name, values in found.items():
            values.append(record.get(name))
        count += 1
    return found
