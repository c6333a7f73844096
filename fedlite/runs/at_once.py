"""Values that are wrong by themselves, found before Hydra is imported and anything is composed."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from fedlite.base.options import check_given, options_of
from fedlite.runs.config import Config
from fedlite.runs.literal import key_of

NUMBER = re.compile(r"-?\d+(\.\d+)?")
WORD = re.compile(r"[A-Za-z]\w*", flags=re.ASCII)
MEANT_OTHERWISE = ("null", "true", "false", "inf", "nan")  # by Hydra, in any case


def check_at_once(overrides: Sequence[str]) -> None:
    """Refuse numbers and single words that cannot be the value of their option.

    All else, and whatever hangs on other options, is checked when the options are composed.

    Raises:
        UsageError: names the option, the value and what would be right.
    """
    plain: dict[str, Any] = {}
    for key, value in dict(_simple(overrides)).items():
        *parents, name = key.split(".")
        place = plain
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    if plain:
        check_given(Config, plain)


def _simple(overrides: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The last value of each option, where it is a number or a word."""
    last = {key_of(text): text.partition("=")[2] for text in overrides}
    for option in options_of(Config):
        text = last.get(option.key, "")
        if NUMBER.fullmatch(text):
            yield option.key, float(text) if "." in text else int(text)
        elif WORD.fullmatch(text) and text.lower() not in MEANT_OTHERWISE:
            yield option.key, text
