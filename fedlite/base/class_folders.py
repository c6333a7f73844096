"""Where the runs of several classes of students lie, within the directory of all of them."""

from pathlib import Path
from shlex import quote

from fedlite.base.errors import UsageError

CLASSES = "classes"  # the folder


def one_run(directory: Path) -> Path:
    """``directory``, where what is asked for is about one run.

    Raises:
        UsageError: it holds the runs of several classes; names them.
    """
    found = sorted(file.parent for file in (directory / CLASSES).glob("*/config.json"))
    if found:
        named = ", ".join(quote(str(one)) for one in found)
        raise UsageError(f"{directory}: holds several classes of students; give one of {named}")
    return directory
