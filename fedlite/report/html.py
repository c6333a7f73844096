"""The report as one HTML file that holds its pictures and needs nothing else: it can be mailed."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML

from fedlite.report.parts import Folded, Part

_PAGE = Path(__file__).with_name("page.html")


def report_html(title: str, parts: Sequence[Part], folder: Path) -> str:
    """The page.

    Args:
        title: plain text, for the window.
        parts: as in :func:`fedlite.report.content.report_parts`. HTML within them becomes text.
        folder: what their pictures' paths are relative to; a picture that is not there is left out.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.add_render_rule("image", _picture)
    reader.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    reader.add_render_rule("table_close", lambda *_: "</table></div>\n")
    content = "\n".join(_html(reader, part, folder) for part in parts)
    page = Template(_PAGE.read_text(encoding="utf-8"))
    return page.substitute(title=escape(title), content=content)


def _html(reader: MarkdownIt, part: Part, folder: Path) -> str:
    if not isinstance(part, Folded):
        text: str = reader.render(part, {"folder": folder})
        return text
    inner = "\n".join(_html(reader, one, folder) for one in part.parts)
    summary = f"<summary>{escape(part.title)}</summary>"
    return f"<details>{summary}\n{inner}</details>"


def _picture(
    renderer: RendererHTML, tokens: Sequence[Any], index: int, options: Any, env: dict[str, Any]
) -> str:
    """An image of markdown with the bytes of its file."""
    token = tokens[index]
    path: Path = env["folder"] / str(token.attrGet("src"))
    if not path.is_file():
        return ""
    data = b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(token.content)}" src="data:image/png;base64,{data}">'
