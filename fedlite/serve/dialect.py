"""Reading a csv of unknown dialect, plain or gzipped, in UTF-8."""

import csv
import gzip
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

LONGEST_CELL = 2**31 - 1  # characters; Python's own limit takes a long cell for damage
DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"[^"]*"')


def delimiter_of(first_line: str) -> str:
    """The sign that the first line has most outside quotes; a comma where it has none.

    >>> delimiter_of('age;"weight, kg";pulse'), delimiter_of("text")
    (';', ',')
    """
    outside = _QUOTED.sub("", first_line)
    return max(DELIMITERS, key=outside.count)


def is_number(cell: str) -> bool:
    """Whether a cell can be read as a number, NaN and infinity too."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def lines_of(path: Path) -> Iterator[str]:
    """Lines of text, unzipped; without the mark that some programs begin files with."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield from file


def rows_of(path: Path, *, strict: bool = False) -> tuple[str, Iterator[list[str]]]:
    """The delimiter, and the cells of each row; ``strict`` refuses quotes in odd places.

    Raises:
        OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error: it cannot be read.
    """
    csv.field_size_limit(LONGEST_CELL)
    lines = lines_of(path)
    first = next(lines, "")
    delimiter = delimiter_of(first)
    return delimiter, csv.reader(chain([first], lines), delimiter=delimiter, strict=strict)
