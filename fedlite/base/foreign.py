"""Code that is not fedlite's own: what it raised, in one line that says where."""

import logging
import sysconfig
import traceback
from pathlib import Path

from fedlite.base.errors import UsageError
from fedlite.base.files import PACKAGE

log = logging.getLogger(__name__)

# Whose text is a sentence; of all others the type says more than the text.
_SENTENCES = (ValueError, TypeError, RuntimeError, ImportError, ModuleNotFoundError)
_LIBRARIES = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")})

FAILURES = (Exception, SystemExit)
"""Whatever foreign code may raise; Ctrl-C is the person's."""


def refusal(said: str, error: BaseException) -> UsageError:
    """The error for the person, ``said`` and why; the log gets the whole traceback."""
    log_of(said, error)
    return UsageError(f"{said}: {reason_of(error)}")


def log_of(said: str, error: BaseException) -> None:
    """Let the log have the whole traceback of what a person is told in one line."""
    log.info("%s", said, exc_info=error)


def reason_of(error: BaseException) -> str:
    """What foreign code said when it failed, in one line, with the place in the user's own file.

    >>> reason_of(KeyError("depth"))
    "KeyError: 'depth'"
    >>> reason_of(ValueError("first line\\nand more"))
    'first line'
    """
    kind = type(error).__name__
    try:
        text = str(error).strip()
    except Exception:  # of a text of its own
        text = ""
    text = text.split("\n", 1)[0].strip()
    said = text if text and type(error) in _SENTENCES else ": ".join(filter(None, [kind, text]))
    place = _place(error)
    return f"{said} ({place})" if place else said


def _place(error: BaseException) -> str:
    """``file.py, line 7``: the innermost line of code that belongs to no library; "" for none."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        library = any(path.is_relative_to(root) for root in (PACKAGE, *_LIBRARIES))
        if path.is_file() and not library:
            found = f"{path.name}, line {line}"
    return found
