"""Write docs/options.md from the options themselves.

python scripts/options_page.py            # write it
python scripts/options_page.py --check    # exit code 1 if it is not as the options say
"""

import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from fedlite.base.options import MISSING, NEUTRAL, Option, options_of
from fedlite.runs.config import Config

PAGE = Path(__file__).resolve().parent.parent / "docs" / "options.md"
HEAD = """\
# Options

Every option of a run, made by `python scripts/options_page.py` from the `options.py` of each room:
the one place where its type, default, range and help are written. Any of them can be given on the
command line (`key=value`) or to `fedlite.simulate("key=value")`; a file of `conf/` chooses several
at once (`privacy=aggregate`, `experiment=har`). Options marked ° decide no result: they say where
something lies, or how a run is driven or shown, and a run may go on with other values.
"""
FIXED = {"teacher.cache_dir": "FEDLITE_CACHE, ~/.cache/fedlite"}  # depends on the environment


def shown(option: Option) -> str:
    """The default in the form in which it is typed."""
    value: Any = FIXED.get(option.key, option.default)
    if value == MISSING:
        return "none: must be given"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None:
        return "`null`"
    if isinstance(value, list):
        return f"`[{','.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def row(option: Option) -> str:
    """One line of a table."""
    allowed = ", ".join(option.choices) or option.bounds
    name = f"`{option.key}`" + (" °" if NEUTRAL in option.marks else "")
    cells = (name, option.type, shown(option), allowed, option.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for group, options in groupby(options_of(Config), lambda option: option.key.split(".")[0]):
        table = [
            "| option | type | default | allowed | what it is |",
            "| :-- | :-- | :-- | :-- | :-- |",
        ]
        parts.append("\n".join([f"## {group}", "", *table, *map(row, options)]) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Write or check the page."""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE}: is not what the options say; run python scripts/options_page.py")


if __name__ == "__main__":
    main()
