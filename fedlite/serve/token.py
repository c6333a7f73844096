"""The bearer token that a teacher's server asks for: from a file or the environment, never typed
as an option, where other people of the machine could read it."""

import hmac
import os
import stat
from pathlib import Path

from fedlite.base.errors import UsageError

VARIABLE = "FEDLITE_TOKEN"
SHORTEST = 16  # characters
_MAKE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def read_token(path: Path | None) -> str:
    """The token in a file, else in the variable ``FEDLITE_TOKEN``.

    Raises:
        UsageError: there is none, it is too short or no plain word, or others may read the file.
    """
    if path is None:
        where, text = VARIABLE, os.environ.get(VARIABLE, "")
        if not text:
            raise UsageError(
                f"token_file: missing; give token_file=FILE, or the token in {VARIABLE}; make one"
                f" with: {_MAKE}"
            )
    else:
        where = f"token_file={path}"
        try:
            mode, text = path.stat().st_mode, path.read_text("ascii")
        except FileNotFoundError:
            raise UsageError(f"{where}: no such file; make a token with: {_MAKE}") from None
        except (OSError, ValueError) as error:
            raise UsageError(f"{where}: cannot be read as a token ({error})") from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UsageError(f"{where}: others may read it; take that away: chmod 600")
    token = text.strip()
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"{where}: must be one word of {SHORTEST} letters, digits and signs or more; make one"
            f" with: {_MAKE}"
        )
    return token


def is_bearer_of(header: str, token: str) -> bool:
    """Whether an ``Authorization`` header holds the token; takes as long whatever it holds."""
    return hmac.compare_digest(header.encode(), f"Bearer {token}".encode())
