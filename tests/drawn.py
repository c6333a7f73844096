"""Options of a run drawn at random, within what they say of themselves."""

import math
import re
from typing import Any

from hypothesis import strategies as st

from fedlite.base.options import Option, options_of

REQUIRED = {  # the options of a run that have no default
    "run.dir": "somewhere",
    "dataset.name": "digits",
    "dataset.source": "digits",
    "partition.name": "iid",
    "teacher.name": "cnn",
    "teacher.module": "fedlite.models.wide_cnn.WideCNN",
    "student.name": "cnn",
    "student.module": "fedlite.models.cnn.CNN",
}


TEXTS = st.text(alphabet="abcé./ =-", max_size=5)


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` as ``{"a": {"b": 1}}``."""
    plain: dict[str, Any] = {}
    for key, value in values.items():
        *groups, last = key.split(".")
        place = plain
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return plain


def at(plain: dict[str, Any], key: str) -> Any:
    found: Any = plain
    for part in key.split("."):
        found = found[part]
    return found


def numbers(option: Option) -> st.SearchStrategy[Any]:
    """Numbers within the bounds of an option, and on them where they belong to it."""
    low, high = limits(option.bounds)
    if "whole" in f"{option.type} {option.values}":
        return st.integers(
            math.ceil(low) if low > -math.inf else None,
            math.floor(high) if high < math.inf else None,
        )
    return st.floats(
        low if low > -math.inf else None,
        high if high < math.inf else None,
        exclude_min="> " in option.bounds,
        exclude_max="< " in option.bounds,
        allow_nan=False,
        allow_infinity=False,
    )


def limits(bounds: str) -> tuple[float, float]:
    low = re.search(r">=? (\S+)", bounds)
    high = re.search(r"<=? (\S+)", bounds)
    return float(low[1]) if low else -math.inf, float(high[1]) if high else math.inf


def values(option: Option) -> st.SearchStrategy[Any]:
    """Values that an option takes."""
    if option.key == "compress.bits":
        return st.sampled_from([8, 4])
    one: st.SearchStrategy[Any]
    if option.schema is not None:
        one = st.fixed_dictionaries({each.key: values(each) for each in options_of(option.schema)})
    elif option.choices:
        one = st.sampled_from(option.choices)
    elif "number" in f"{option.type} {option.values}":
        one = numbers(option)
    else:
        one = st.booleans() if option.type.startswith("true") else TEXTS
    if option.of_list:
        one = st.lists(one, min_size=1, max_size=3)
    elif option.type.startswith("a mapping"):
        one = st.dictionaries(TEXTS, one, max_size=2)
    return st.none() | one if option.type.endswith("or null") else one
