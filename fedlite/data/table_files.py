"""Tables on disk: csv in its many dialects, plain or gzipped, and parquet, one file or several."""

import csv
import io
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from fedlite.base.errors import UsageError
from fedlite.base.nearest import did_you_mean_file
from fedlite.serve.dialect import delimiter_of, is_number
from fedlite.serve.parquet import PARQUETS, is_parquet, read_parquet

TEXTS = (".csv", ".tsv", ".txt")
FIRST_BYTES = 2**16  # of a file, enough for its line of names
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+([eE][-+]?\d+)?\s*")
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of one file, or of several one after the other; columns have the files' own types.

    ``files`` are the paths with their numbers of rows, ``header`` the lines before the first row.
    """

    data: pa.Table
    files: tuple[tuple[Path, int], ...]
    header: int
    notes: tuple[str, ...] = ()

    def place(self, row: int) -> str:
        """Where a row lies: ``train.csv, line 7``."""
        starts = [0, *accumulate(count for _, count in self.files)]
        file = bisect_right(starts, row) - 1
        word, number = "line" if self.header else "row", row - starts[file] + 1 + self.header
        return f"{self.files[file][0].name}, {word} {number}"


def is_table(path: Path) -> bool:
    """Whether a file of this name is a table for sure; a .txt may be anything."""
    return is_parquet(path) or (is_text_table(path) and _kind(path) != ".txt")


def is_text_table(path: Path) -> bool:
    """Whether it is a csv by its name."""
    return _kind(path) in TEXTS


def matching(folder: Path, patterns: str, option: str) -> list[Path]:
    """The files that comma-separated names or patterns (``part-*.csv``) stand for, in order.

    Raises:
        UsageError: a name or a pattern stands for no file.
    """
    found: list[Path] = []
    for pattern in filter(None, map(str.strip, patterns.split(","))):
        path = folder / Path(pattern).expanduser()
        some = [path]
        if not path.exists() and _WILD.search(pattern):
            some = sorted(path.parent.glob(path.name))
        if not some or not all(one.is_file() for one in some):
            hint = did_you_mean_file(path)
            raise UsageError(f"{option}={pattern}: no such file in {path.parent}{hint}")
        found += some
    return found


def read_files(paths: Sequence[Path]) -> Table:
    """Read one table out of one file or more with the same columns.

    A csv has a line of column names; its delimiter (comma, semicolon, tab or bar), a decimal comma,
    a byte order mark, gzip, UTF-16 and, where it is no UTF-8, Windows-1252 are found out.

    Raises:
        UsageError: a file that is no table, is damaged, has no names of columns or the same twice;
            files of different columns.
    """
    tables, notes = [], []
    for path in paths:
        if is_parquet(path):
            tables.append(read_parquet(path))
        elif is_text_table(path):
            table, note = _read_text(path)
            tables.append(table)
            notes += [note] if note else []
        else:
            kinds = ", ".join((*TEXTS, ".csv.gz", *PARQUETS))
            raise UsageError(f"{path}: files of type {path.suffix!r} are no tables; give {kinds}")
        _check_names(tables[-1].column_names, path)
    first = tables[0]
    for path, table in zip(paths, tables, strict=True):
        if set(table.column_names) != set(first.column_names):
            other = sorted(set(table.column_names) ^ set(first.column_names))[0]
            raise UsageError(f"{path}: column {other!r} is not in both {paths[0].name} and it")
    try:
        ordered = [table.select(first.column_names) for table in tables]
        joined = pa.concat_tables(ordered, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UsageError(f"{paths[0].parent}: {_differing(paths, tables)}") from error
    rows = tuple(table.num_rows for table in tables)
    header = 0 if is_parquet(paths[0]) else 1
    return Table(joined, tuple(zip(paths, rows, strict=True)), header, tuple(notes))


def _kind(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _check_names(names: Sequence[str], path: Path) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{path}: column {twice[0]!r} is there twice; rename one of the two")


def _differing(paths: Sequence[Path], tables: Sequence[pa.Table]) -> str:
    """Which column has values of different kinds in two of the files."""
    for name in tables[0].column_names:
        kinds = [str(table.schema.field(name).type) for table in tables]
        for path, kind in zip(paths, kinds, strict=True):
            if kind != kinds[0]:
                return f"column {name!r} is {kinds[0]} in {paths[0].name}, {kind} in {path.name}"
    raise AssertionError("tables of equal types cannot differ")


def _read_text(path: Path) -> tuple[pa.Table, str]:
    """A csv as a table, and what had to be guessed of it; "" if nothing had."""
    try:
        with path.open("rb") as file:
            packing = "gzip" if file.read(2) == b"\x1f\x8b" else None
        with pa.input_stream(str(path), compression=packing) as stream:
            head = stream.read(FIRST_BYTES)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    encodings = ["utf-16"] if head[:2] in (b"\xff\xfe", b"\xfe\xff") else ["utf8", "cp1252"]
    for encoding in encodings:
        try:
            names = _names(head.decode("utf-8-sig" if encoding == "utf8" else encoding, "replace"))
            table = _parse(path, packing, encoding, names, ".")
            if _has_bytes(table):
                continue
            if names.delimiter != "," and _decimal_commas(table):
                table = _parse(path, packing, encoding, names, ",")
        except UnicodeDecodeError:
            continue
        note = f"{path}: is no UTF-8 and was read as Windows-1252" if encoding == "cp1252" else ""
        return table, note
    raise UsageError(f"{path}: is no text; save it as CSV in UTF-8")


@dataclass(frozen=True)
class _Names:
    """The names in the first line, what stands between them, and whether nothing follows."""

    names: list[str]
    delimiter: str
    alone: bool


def _names(head: str) -> _Names:
    lines = [line for line in head.splitlines() if line.strip()]
    line = lines[0] if lines else ""
    delimiter = delimiter_of(line)
    cells = next(csv.reader(io.StringIO(line), delimiter=delimiter), [])
    return _Names([cell.strip() for cell in cells], delimiter, alone=len(lines) == 1)


def _parse(path: Path, packing: str | None, encoding: str, names: _Names, decimal: str) -> pa.Table:
    if not any(names.names):
        raise UsageError(f"{path}: is empty; a table has a line of column names, and rows")
    if all(map(is_number, names.names)):
        raise UsageError(
            f"{path}: has no line of column names (its first line is"
            f" {names.delimiter.join(names.names[:4])}...); add one"
        )
    if names.alone:
        raise UsageError(f"{path}: has no rows under its line of column names")
    try:
        with pa.input_stream(str(path), compression=packing) as stream:
            table = pyarrow.csv.read_csv(
                stream,
                pyarrow.csv.ReadOptions(use_threads=False, encoding=encoding),
                pyarrow.csv.ParseOptions(delimiter=names.delimiter, newlines_in_values=True),
                pyarrow.csv.ConvertOptions(strings_can_be_null=True, decimal_point=decimal),
            )
    except (pa.ArrowInvalid, OSError) as error:
        raise UsageError(f"{path}: {_plainly(str(error))}") from error
    return table.rename_columns([name.strip() for name in table.column_names])


def _plainly(reason: str) -> str:
    """Arrow's reason, in the words of this file."""
    if found := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", reason):
        line, expected, got = found.groups()
        return (
            f"line {line} has {got} cells, and there are {expected} column names; quote cells that"
            " hold the delimiter"
        )
    return f"cannot be loaded ({reason.splitlines()[0]})"


def _has_bytes(table: pa.Table) -> bool:
    return any(pa.types.is_binary(kind) for kind in table.schema.types)


def _decimal_commas(table: pa.Table) -> bool:
    """Whether some column holds numbers with decimal commas, by the first rows."""
    for column in table.columns:
        if not pa.types.is_string(column.type):
            continue
        some = [one for one in column.slice(0, 1000).to_pylist() if one is not None]
        if some and all(_DECIMAL_COMMA.fullmatch(one) or one.strip().isdigit() for one in some):
            return True
    return False
