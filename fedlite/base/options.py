"""Options: frozen dataclasses whose fields carry type, default, range, choices and help.

    rounds: Annotated[int, Ge(1), Doc("rounds of the federation")] = 30

They are plain dataclasses, which code builds and replaces as it likes; what a user types enters
through :func:`parse`, where pydantic checks it and one clear line says what is wrong. Pydantic and
not Hydra's structured configs alone: OmegaConf 2.3 knows neither ranges nor choices, which would
lie in tables of their own again. Hydra composes all the same: :func:`defaults` is what it starts
from.
"""

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from fedlite.base.errors import UsageError
from fedlite.base.files import user_path
from fedlite.base.named import Named
from fedlite.base.nearest import did_you_mean

MISSING = "???"  # how OmegaConf writes an option that has no default
OUT_OF_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
NUMBERS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True)
class Doc:
    """The help of an option: what it is and its unit, as the rest of a line."""

    text: str


@dataclass(frozen=True)
class Mark:
    """Something about an option that is no part of its type."""

    meaning: str


NEUTRAL = Mark("decides no result: where something lies, or how a run is driven or shown")
LATER = Mark("came when there were runs already: its default does what was done before it came")
PATH = Mark("a path of the user's: it means the same from any working directory")
PATH_OR_NAME = Mark("a path, or a name that is none, such as one on a hub")


class Options:
    """Base of all option classes: how pydantic reads them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False
    )


@dataclass(frozen=True)
class Option:
    """One option as help, docs and checks see it.

    ``type`` is in words, ``default`` plain values (:data:`MISSING` where there is none),
    ``bounds`` such as ``>= 1`` ("" where there are none), ``choices`` the values of a closed or
    open set, ``marks`` what else was said of it. Of a list or mapping, bounds and choices are those
    of its values, and ``values`` is their type in words. ``schema`` is the option class of a
    mapping's values; None where they are plain.
    """

    key: str
    type: str
    default: Any
    help: str
    bounds: str
    choices: tuple[str, ...]
    marks: tuple[Mark, ...]
    named: Named | None = None
    of_list: bool = False
    values: str = ""
    schema: Any = None


@lru_cache
def options_of(schema: type, prefix: str = "") -> tuple[Option, ...]:
    """Every option of an option class and of those within it, by its full key, in their order."""
    return tuple(_walk(schema, prefix))


def _walk(schema: Any, prefix: str) -> Iterator[Option]:
    hints = get_type_hints(schema, include_extras=True)
    for item in dataclasses.fields(schema):
        kind, metadata = _unwrap(hints[item.name])
        if dataclasses.is_dataclass(kind):
            yield from _walk(kind, f"{prefix}{item.name}.")
            continue
        inner, of_list, of_mapping = kind, get_origin(kind) is list, get_origin(kind) is dict
        if of_list or of_mapping:
            inner, more = _unwrap(get_args(kind)[-1])
            metadata = (*metadata, *more)
        choices = tuple(map(str, get_args(inner))) if get_origin(inner) is Literal else ()
        named = next((one for one in metadata if isinstance(one, Named)), None)
        yield Option(
            key=f"{prefix}{item.name}",
            type=_type_words(
                kind if of_mapping else inner,
                of_list=of_list,
                optional=_optional(hints[item.name]),
            ),
            default=_default(item),
            help=next((one.text for one in metadata if isinstance(one, Doc)), ""),
            bounds=bounds_words(metadata, whole=inner is int),
            choices=named.names() if named else choices,
            marks=tuple(one for one in metadata if isinstance(one, Mark)),
            named=named,
            of_list=of_list,
            values=NUMBERS.get(inner, "") if of_list or of_mapping else "",
            schema=inner if of_mapping and dataclasses.is_dataclass(inner) else None,
        )


def defaults(schema: type) -> dict[str, Any]:
    """The defaults of an option class as plain nested values; :data:`MISSING` where none is."""
    found: dict[str, Any] = {}
    hints = get_type_hints(schema, include_extras=True)
    for item in dataclasses.fields(schema):
        kind, _ = _unwrap(hints[item.name])
        nested = dataclasses.is_dataclass(kind) and isinstance(kind, type)
        found[item.name] = defaults(kind) if nested else _default(item)
    return found


def parse(schema: type[_Parsed], plain: Mapping[str, Any]) -> _Parsed:
    """Plain nested values as an instance of ``schema``, every value checked.

    Raises:
        UsageError: names the first key that is wrong, the value found and what would be right.

    >>> @dataclass(frozen=True)
    ... class Training:
    ...     epochs: Annotated[int, Ge(1), Doc("passes over the data")] = 3
    >>> parse(Training, {"epochs": 5})
    Training(epochs=5)
    >>> parse(Training, {"epochs": 0})
    Traceback (most recent call last):
    fedlite.base.errors.UsageError: epochs=0: must be >= 1
    """
    schema_of: Any = schema  # mypy: a type variable's type is not known to be hashable
    try:
        parsed: _Parsed = _adapter(schema_of).validate_python(plain)
    except ValidationError as error:
        raise UsageError(_explain(schema, error.errors()[0], plain)) from error
    for option in options_of(schema_of):
        given = value_at(plain, option.key)
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, bool) and "number" in option.type:  # pydantic takes true for 1
                raise UsageError(f"{option.key}={shown(given)}: must be {option.type}")
        if option.named is None:
            continue
        value = value_at(parsed, option.key)
        for name in value if option.of_list else [value]:
            if problem := option.named.problem(name):
                raise UsageError(f"{option.key}={shown(value)}: {problem}")
    return parsed


def check_given(schema: type, plain: Mapping[str, Any]) -> None:
    """Check the values that are given, each by itself; those left out are not asked for.

    Raises:
        UsageError: as :func:`parse`.
    """
    try:
        _adapter(schema).validate_python(plain)
    except ValidationError as error:
        wrong = [one for one in error.errors() if one["type"] != "missing"]
        if wrong:
            raise UsageError(_explain(schema, wrong[0], plain)) from error


def value_at(options: Any, key: str) -> Any:
    """The value of the option ``key``, such as ``privacy.epsilon``, in nested mappings or options.

    None where a mapping lacks it, or the group that it is in.
    """
    for part in key.split("."):
        if options is None:
            return None
        options = options.get(part) if isinstance(options, Mapping) else getattr(options, part)
    return options


@lru_cache
def _adapter(schema: type) -> TypeAdapter[Any]:
    """Pydantic's reader of an option class; made once, because making it takes longest."""
    return TypeAdapter(schema)


def deciding(options: Any) -> dict[str, Any]:
    """What of ``options`` decides results, as plain values: neutral ones are left out, so are later
    ones at their default, and paths are absolute."""
    hints = get_type_hints(type(options), include_extras=True)
    found: dict[str, Any] = {}
    for item in dataclasses.fields(options):
        value, (_, metadata) = getattr(options, item.name), _unwrap(hints[item.name])
        if NEUTRAL in metadata or (LATER in metadata and value == _default_of(item)):
            continue
        if dataclasses.is_dataclass(value):
            value = deciding(value)
        elif value and (PATH in metadata or PATH_OR_NAME in metadata):
            value = portable_path(value)
        found[item.name] = value
    return found


def _default_of(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def portable_path(text: str) -> str:
    """A path that means the same from any working directory; a name on a hub stays a name."""
    path = user_path(text)
    return str(path.absolute()) if path.exists() else text


def bounds_words(metadata: tuple[Any, ...], *, whole: bool = False) -> str:
    """What the range in a field's metadata says; "" for none.

    >>> bounds_words((Gt(0), Le(1))), bounds_words((Gt(0),)), bounds_words((Ge(1),), whole=True)
    ('> 0 and <= 1', '> 0 and finite', '>= 1')
    """
    lower = next((one for one in metadata if isinstance(one, Ge | Gt)), None)
    upper = next((one for one in metadata if isinstance(one, Le | Lt)), None)
    words = []
    if lower is not None:
        words.append(f">= {lower.ge:g}" if isinstance(lower, Ge) else f"> {lower.gt:g}")
    if upper is not None:
        words.append(f"<= {upper.le:g}" if isinstance(upper, Le) else f"< {upper.lt:g}")
    elif words and not whole:
        words.append("finite")
    return " and ".join(words)


def _explain(schema: type, error: ErrorDetails, plain: Mapping[str, Any]) -> str:
    """An error in one line."""
    key = ".".join(str(part) for part in error["loc"] if not isinstance(part, int))
    if error["type"] == "unexpected_keyword_argument":
        return f"{key}: no such option"
    if error["type"] == "missing":
        return f"{key}: missing; give {key}=VALUE"
    options = {one.key: one for one in options_of(schema)}
    for one in [*options.values()]:
        if one.schema is not None and key.startswith(f"{one.key}."):  # of a mapping's value
            name = key.removeprefix(f"{one.key}.").split(".")[0]
            options |= {each.key: each for each in options_of(one.schema, f"{one.key}.{name}.")}
    option = options.get(key)
    if inside := [one for one in options if one.startswith(f"{key}.")]:
        given = shown(error["input"])
        return f"{key}={given}: holds options of its own: {', '.join(inside)}"
    if option is None:  # a value of a mapping
        option = next((one for one in options.values() if key.startswith(f"{one.key}.")), None)
        right = _right(option.bounds, option.values, error["type"]) if option else ""
        return f"{key}={shown(error['input'])}: must be {right or 'something else'}"
    if option.of_list and (option.bounds or option.choices):
        kind = option.values.removeprefix("a ")
        what = f"of {', '.join(option.choices)}" if option.choices else f"{kind}s {option.bounds}"
        return f"{key}={shown(value_at(plain, key))}: must hold one or more {what}"
    if error["type"] == "literal_error":
        hint = did_you_mean(str(error["input"]), option.choices)
        right = f"one of {', '.join(option.choices)}{hint}"
    else:
        right = _right("" if option.values else option.bounds, option.type, error["type"])
    return f"{key}={shown(error['input'])}: must be {right}"


def _right(bounds: str, kind: str, error: str) -> str:
    """What a value must be: within bounds if its kind is right, else of the kind."""
    if error == "finite_number":
        return bounds or "finite"
    return bounds if bounds and error in OUT_OF_RANGE else kind


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type behind ``Annotated`` and ``| None``, and all that the annotation says beside it."""
    metadata: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        metadata = tuple(rest)
    if _is_union(hint):
        hint = next(one for one in get_args(hint) if one is not types.NoneType)
        inner, more = _unwrap(hint)
        return inner, (*metadata, *more)
    return hint, metadata


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _optional(hint: Any) -> bool:
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return _is_union(bare) and types.NoneType in get_args(bare)


def _type_words(kind: Any, *, of_list: bool, optional: bool) -> str:
    words = NUMBERS.get(kind, "one of a set" if get_origin(kind) is Literal else "a mapping")
    if of_list:
        words = f"a list of {words.removeprefix('a ')}s" if kind in (int, float) else "a list"
    return f"{words} or null" if optional else words


def _default(item: "dataclasses.Field[Any]") -> Any:
    if item.default is not dataclasses.MISSING:
        return item.default
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return MISSING


def shown(value: Any) -> str:
    """A value as it would be typed."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float() if math.isfinite(value):
            return f"{value:g}"
        case list():
            return f"[{','.join(map(shown, value))}]"
    return str(value)
