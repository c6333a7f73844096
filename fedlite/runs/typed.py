"""What is typed, made into what Hydra composes.

A shell hands over ``key=value`` as it stands, and so lists of options are kept: in
``overrides.json``, in hints, in Python. Hydra reads a grammar of its own, in which ``, = ( [ # ~``,
quotes and letters beyond ASCII mean something else or nothing. Here the one becomes the other: a
path is what was typed, letter for letter; other values are Hydra's, or else YAML's; and what is
wrong is said in words that do not need Hydra.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from fedlite.base.errors import UsageError
from fedlite.base.files import user_path
from fedlite.base.nearest import did_you_mean
from fedlite.base.options import PATH, PATH_OR_NAME, Option, options_of
from fedlite.runs.conf import choices, conf_dir, groups
from fedlite.runs.config import Config
from fedlite.runs.experiment import EXPERIMENT
from fedlite.runs.literal import key_of, literal

FILES = (".yaml", ".yml")
MODELS = ("student", "teacher")  # groups that take a file of the user's own, as experiment does
OWN_FILES = (*MODELS, EXPERIMENT)


def unquoted(value: str) -> str:
    """A value without the quotes around it, if it stands in quotes.

    >>> unquoted("'it\\\\'s'"), unquoted("it's")
    ("it's", "it's")
    """
    if len(value) < 2 or value[0] not in "'\"" or value[-1] != value[0]:
        return value
    try:
        return str(_parsed(f"key={value}").value())
    except HydraException:
        return value


def is_path(key: str) -> bool:
    """Whether an option holds a path (or a name that may be one) or is one of a mapping of them."""
    return any(one in _paths() for one in (key, key.rpartition(".")[0]))


def may_be_name(key: str) -> bool:
    """Whether the path of an option may be a name that is none, such as one on a hub."""
    options = (_options().get(one) for one in (key, key.rpartition(".")[0]))
    return any(PATH_OR_NAME in option.marks for option in options if option is not None)


def own_file(override: str) -> Path | None:
    """The file that ``experiment=``, ``student=`` or ``teacher=`` names; None where it is a name of
    ``conf/``, and for all other options."""
    key, _, value = override.partition("=")
    value = unquoted(value)
    if key_of(key) not in OWN_FILES or not value.endswith(FILES):
        return None
    return user_path(value)


def composable(overrides: Sequence[str]) -> list[str]:
    """Options as typed, in the form in which Hydra composes them.

    Raises:
        UsageError: one that is none, that is not known or cannot be read.
    """
    return [_composable(text) for text in overrides]


def values_of(overrides: Sequence[str]) -> dict[str, Any]:
    """What options say, by option; flags among them are left out.

    Raises:
        UsageError: one that cannot be read.
    """
    found: dict[str, Any] = {}
    for text in (one for one in overrides if not one.startswith("--")):
        key, value = key_of(text), text.partition("=")[2]
        found[key] = _path_value(value) if is_path(key) else _read(text).value()
    return found


def values_swept(override: str) -> list[str]:
    """The options that a sweep makes of one: itself where it holds one value.

    Raises:
        UsageError: it cannot be read.
    """
    name, _, value = override.partition("=")
    key = key_of(override)
    if override.startswith("--") or key == "run.dir":
        return [override]
    if is_path(key):
        several = "," in value and not user_path(unquoted(value)).exists()
        return [f"{name}={one}" for one in value.split(",")] if several else [override]
    parsed = _read(override)
    if not parsed.is_sweep_override():
        return [override]
    try:
        return [f"{name}={one}" for one in parsed.sweep_string_iterator()]
    except (HydraException, ValueError, TypeError) as error:
        raise UsageError(f"{override}: cannot be swept; give values with commas") from error


def unknown_option(key: str) -> str:
    """What to say of a key that is no option."""
    if mapping := next((one for one in _mappings() if key.startswith(f"{one}.")), None):
        hint = did_you_mean(key, _entries(mapping)) or ";"
        return (
            f"{key}: not among the {mapping.rpartition('.')[2]} so far{hint} +{key}=VALUE adds it"
        )
    known = [*_options(), *groups()]
    hint = did_you_mean(key, known, count=3)
    group = key.split(".")[0]
    beside = [one.removeprefix(f"{group}.") for one in _options() if one.startswith(f"{group}.")]
    if not hint and 0 < len(beside) <= 15:
        hint = f"; {group} has {', '.join(beside)}"
    return f"{key}: no such option{hint} (see `fedlite simulate --help`)"


def _entries(mapping: str) -> list[str]:
    """The keys that the files of ``conf/`` have in a mapping, each with the mapping's own."""
    group, _, name = mapping.partition(".")
    files = [conf_dir() / group / f"{choice}.yaml" for choice in choices(group)]
    read = [yaml.safe_load(file.read_text("utf-8")) or {} for file in files]
    held = [content.get(name) or {} for content in read]
    return sorted({f"{mapping}.{key}" for entries in held for key in entries})


def unknown_choice(group: str, choice: str, there: Sequence[str] = ()) -> str:
    """What to say of a name that no file of a group has; ``there`` are the names, where they are
    not those of ``conf/`` alone."""
    if choice.startswith(("{", "[")):
        return f"{group}={choice}: takes a name; for values give {group}.OPTION=VALUE"
    there = there or choices(group)
    own = ", or a FILE.yaml" if group in OWN_FILES else ""
    hint = did_you_mean(choice, there)
    return f"{group}={choice}: no such choice{hint or ';'} choose from {', '.join(there)}{own}"


def _composable(text: str) -> str:
    key, value = key_of(text), text.partition("=")[2]
    if text.startswith("~"):
        if any(key.startswith(f"{one}.") for one in _mappings()):
            return text
        raise UsageError(f"{text}: options cannot be taken away; give them another value")
    if "=" not in text:
        raise UsageError(f"{text}: missing; give {text}=VALUE")
    if key in groups():
        _check_choice(key, value)
        return f"{key}={value}"
    added = "+" if text.startswith("+") else ""
    if key not in _options() and not any(one.startswith(f"{key}.") for one in _options()):
        if not any(key.startswith(f"{one}.") for one in _mappings()):
            raise UsageError(unknown_option(key))
        prefix = "++" if added else ""
    else:
        prefix = "++" if key in _mappings() else ""
    if is_path(key) and value not in ("", "null"):
        return f"{prefix}{key}={_escaped(_path_value(value) or '')}"
    parsed = _read(text)
    if parsed.is_sweep_override():
        raise UsageError(f"{text}: several values; -m sweeps over them, [{value}] is a list")
    return f"{prefix}{key}={str(parsed.input_line).partition('=')[2]}"


def _check_choice(group: str, value: str) -> None:
    """Refuse what cannot be the name of a file; whether there is one, composing says."""
    if re.match(r"[\d.{+-]", value):
        raise UsageError(unknown_choice(group, value))
    if not value:
        raise UsageError(f"{group}=: missing; choose from {', '.join(choices(group))}")
    if "," in value and not value.startswith("["):
        raise UsageError(f"{group}={value}: several choices; -m sweeps over them")
    if not re.fullmatch(r"[\w\[\],/ -]+", value, flags=re.ASCII):
        raise UsageError(unknown_choice(group, value))


def _path_value(value: str) -> str | None:
    return None if value in ("", "null") else str(user_path(unquoted(value)))


def _escaped(path: str) -> str:
    """A literal in which nothing is looked up: ``${`` means itself."""
    return literal(re.sub(r"(\\*)\$\{", r"\1\1\\${", path))


def _read(text: str) -> Override:
    """An override, by Hydra's grammar, or its value by YAML's where that takes what Hydra's does
    not (letters beyond ASCII, signs).

    Raises:
        UsageError: by neither.
    """
    name, _, value = text.partition("=")
    try:
        return _parsed(text)
    except HydraException:
        pass
    try:
        found = yaml.safe_load(value)
        return _parsed(f"{name}={literal(found)}")
    except (yaml.YAMLError, HydraException):
        raise UsageError(f"{text}: {_unreadable(value)}") from None


def _unreadable(value: str) -> str:
    for mark in "'\"":
        if value.count(mark) % 2:
            return f"a quote ({mark}) is not closed; a value in quotes needs both"
    for opening, closing in ("[]", "{}", "()"):
        if value.count(opening) != value.count(closing):
            return f"brackets {opening}{closing} do not match"
    return "cannot be read; put its text in quotes"


def _parsed(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


@cache
def _options() -> dict[str, Option]:
    return {option.key: option for option in options_of(Config)}


@cache
def _paths() -> frozenset[str]:
    marked = (one for one in _options().values() if {PATH, PATH_OR_NAME} & {*one.marks})
    return frozenset(one.key for one in marked)


@cache
def _mappings() -> tuple[str, ...]:
    """Options whose values are named by the user."""
    return tuple(one.key for one in _options().values() if one.type.startswith("a mapping"))
