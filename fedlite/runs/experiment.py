"""Experiment files of the user's own: what ``fedlite tune`` writes and ``experiment=FILE`` reads.

They have the form of those in ``conf/experiment/``: a list of defaults that chooses files of
groups, and values of options.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fedlite.base.errors import UsageError
from fedlite.runs.literal import literal

OVERRIDE = "override /"
EXPERIMENT = "experiment"  # the group
OF_A_FILE = "++"  # what an experiment said, in front of its options


def experiment_overrides(path: Path) -> list[str]:
    """An experiment file as overrides.

    Raises:
        UsageError: there is no such file, or it is no experiment.
    """
    where = f"experiment={path}"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}; expected a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: is not YAML") from error
    if not isinstance(found, dict):
        raise UsageError(f"{where}: must hold groups of options, as conf/experiment/*.yaml do")
    values = {str(key): value for key, value in found.items()}
    chosen = values.pop("defaults", [])
    if not isinstance(chosen, list):
        raise UsageError(f"{where}: defaults must be a list")
    groups = [text for entry in chosen for text in _choice(entry, where)]
    return [*groups, *(f"{OF_A_FILE}{key}={literal(value)}" for key, value in _leaves(values))]


def experiment_yaml(groups: Mapping[str, str], values: Mapping[str, Any], head: str) -> str:
    """An experiment file; :func:`experiment_overrides` reads it.

    Args:
        groups: files of groups by their group; ``experiment`` names the one that this goes on from.
        values: of options, by their full key.
        head: what the comment at its top says.
    """
    chosen: list[Any] = [choice for group, choice in groups.items() if group == "experiment"]
    chosen += [
        {f"{OVERRIDE}{group}": choice} for group, choice in groups.items() if group != "experiment"
    ]
    nested: dict[str, Any] = {"defaults": [*chosen, "_self_"]}
    for key, value in values.items():
        *parents, name = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    return f"# @package _global_\n{comment}{yaml.safe_dump(nested, sort_keys=False)}"


def _choice(entry: Any, where: str) -> Iterator[str]:
    match entry:
        case "_self_":
            return
        case str():
            yield f"{EXPERIMENT}={entry}"
        case dict() if len(entry) == 1 and str(next(iter(entry))).startswith(OVERRIDE):
            ((key, choice),) = entry.items()
            yield f"{OF_A_FILE}{str(key).removeprefix(OVERRIDE)}={choice}"
        case _:
            raise UsageError(
                f"{where}: {entry!r} in its defaults; give the name of an experiment, or"
                f" '{OVERRIDE}GROUP: NAME'"
            )


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves({str(name): one for name, one in value.items()}, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
