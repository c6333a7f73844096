"""What a report is made of: markdown, and parts that are folded away; cells and tables of it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Folded:
    """Details that a reader opens: a title in plain text, and markdown below it."""

    title: str
    parts: Sequence[str]


Part = str | Folded


def plain(text: object) -> str:
    """Text in one line that markdown must not read as anything else: names, reasons, paths."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", " ".join(str(text).split()))


def code(text: object) -> str:
    """Text as it is typed, in a line or a cell of a table; line breaks become spaces."""
    text = re.sub(r"\s*\n\s*", " ", str(text)) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    inner = f" {text} " if fence != "`" else text
    return f"{fence}{inner}{fence}".replace("|", r"\|")


def code_block(text: str) -> str:
    """Lines as they are typed, in a block of their own."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table of markdown cells, the first ``left`` columns to the left, the others to the right.

    >>> print(table(["Model", "Accuracy"], [["Teacher", "93.0%"]]))
    | Model | Accuracy |
    | :-- | --: |
    | Teacher | 93.0% |
    """
    sides = [":--"] * left + ["--:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, sides, *rows))


def pairs(rows: Mapping[str, object]) -> str:
    """A table of names and their values; what is None or empty is left out."""
    shown = [[name, str(value)] for name, value in rows.items() if value not in (None, "")]
    return table(["", ""], shown, left=2)
