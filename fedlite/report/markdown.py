"""The text of report.md."""

from collections.abc import Sequence
from html import escape

from fedlite.report.parts import Folded, Part
from fedlite.report.schema import SearchSection
from fedlite.report.searches import search_markdown


def markdown_of(parts: Sequence[Part]) -> str:
    """The parts as one text; what is folded away is HTML's ``<details>``, as markdown has none."""
    return "\n\n".join(text for part in parts if (text := _text(part).strip())) + "\n"


def _text(part: Part) -> str:
    if not isinstance(part, Folded):
        return part
    inner = "\n\n".join(text.strip() for text in part.parts)
    return f"<details>\n<summary>{escape(part.title)}</summary>\n\n{inner}\n\n</details>"


def student_search_markdown(search: SearchSection) -> str:
    """The report of a search of students, beside its trials in a folder of the run directory."""
    drawn = [f"![Trials of the search](../pictures/{one}.png)" for one in search["pictures"]]
    return markdown_of(["# fedlite: search of a student", search_markdown(search), *drawn])
