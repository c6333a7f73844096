"""Overrides in the form in which Hydra reads them from a command line: their keys and values."""

import re
from typing import Any

CONFIG_DIR, CONFIG_NAME = "--config-dir", "--config-name"  # flags that are kept among the options


def key_of(override: str) -> str:
    """The option or group that an override string names."""
    return override.split("=", 1)[0].lstrip("+~")


def literal(value: Any) -> str:
    """A value in Hydra's override grammar.

    >>> literal({"widths": [8, 16], "norm": None})
    '{widths:[8,16],norm:null}'
    """
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ",".join(f"{key}:{literal(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ",".join(map(literal, value)) + "]"
        case str():
            # A backslash is doubled only where a quote follows it.
            escaped = re.sub(r"(\\+)(?='|\Z)", r"\1\1", value).replace("'", "\\'")
            return f"'{escaped}'"
    return str(value)
