"""Foreign words in markdown: whatever a name holds, a reader sees that name."""

import re
from html import unescape

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from fedlite.report.parts import code, plain, table

READER = MarkdownIt("commonmark", {"html": False}).enable("table")
FOREIGN = st.text("ab|*_<>&`\\[]()#~$!;:/\n ", max_size=20)


def read(markdown: str) -> str:
    """What a reader sees."""
    return unescape(re.sub(r"<[^>]*>", "", READER.render(markdown)))


@given(FOREIGN)
@example("a|b *c* _d_ <b>e</b> &amp; `f` #g\nh")
def test_a_name_in_a_sentence_or_a_cell_is_read_as_it_is(name: str) -> None:
    seen = " ".join(name.split())
    assert (
        f"before {seen} after" in " ".join(read(f"before {plain(name)} after").split()) or not seen
    )
    cells = read(table(["Head", "b"], [[f"x{plain(name)}y", "z"]])).split("\n")
    assert f"x{seen}y" in cells


@given(FOREIGN)
@example("")
@example("`")
def test_typed_text_is_read_as_it_is(text: str) -> None:
    shown = READER.render(table(["Head", "b"], [[code(text), "z"]]))
    (seen,) = re.findall("<code>(.*?)</code>", shown)
    assert unescape(seen).strip() == re.sub(r"\s*\n\s*", " ", text).strip()
