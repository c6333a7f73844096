"""Composing ``conf/`` with what is typed.

``conf/`` holds choices; the defaults of a group are those of its option class, which Hydra finds as
the file ``_base`` of that group. So an option has one default, in one place.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedlite.base.errors import UsageError
from fedlite.base.options import defaults, options_of
from fedlite.runs.conf import choices, conf_dir, groups
from fedlite.runs.config import Config, config_from_plain
from fedlite.runs.experiment import experiment_overrides
from fedlite.runs.literal import key_of, literal

UNGROUPED = ("seed", "device", "run")  # options that no file of a group holds


def store_defaults() -> None:
    """Give Hydra the defaults of every group, and of what is in none, under the name ``_base``."""
    store, groups = ConfigStore.instance(), defaults(Config)
    store.store(name="_base", node={key: groups.pop(key) for key in UNGROUPED})
    for group, node in groups.items():
        store.store(name="_base", group=group, node=node)


def expand_files(overrides: Sequence[str]) -> list[str]:
    """Overrides in which ``student=``, ``teacher=`` and ``experiment=FILE.yaml`` are spelt out.

    A student's or teacher's file holds ``name``, ``module`` and ``kwargs``, as those in
    ``conf/student/`` do; ``fedlite search-student`` writes one. An experiment's has the form of
    those in ``conf/experiment/``; ``fedlite tune`` writes one. What is given beside it wins.

    Raises:
        UsageError: there is no such file, or it holds something else; a group is given a number.
    """
    expanded: list[str] = []
    given = {key_of(text) for text in overrides}
    for text in overrides:
        group, _, value = text.partition("=")
        if group == "experiment" and value.endswith((".yaml", ".yml")):
            found = experiment_overrides(Path(value.strip("'\"")).expanduser())
            expanded += [one for one in found if key_of(one) not in given - {"experiment"}]
        elif group in ("student", "teacher") and value.endswith((".yaml", ".yml")):
            expanded += _model_overrides(group, Path(value).expanduser())
        elif re.match(r"[\d.{+-]", value) and group in groups():  # names no file
            raise UsageError(_no_such_choice(group, value, choices(group)))
        else:
            expanded.append(text)
    return expanded


def _model_overrides(group: str, path: Path) -> list[str]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{group}={path}: {error.strerror}; expected a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{group}={path}: is not YAML") from error
    right = isinstance(found, dict) and {"name", "module"} <= set(found)
    if not right or set(found) - {"name", "module", "kwargs"}:
        raise UsageError(f"{group}={path}: must hold name, module and kwargs, and nothing else")
    kwargs = found.get("kwargs") or {}
    if not isinstance(kwargs, dict):
        raise UsageError(f"{group}={path}: kwargs must be a mapping")
    return [
        f"{group}=custom",
        *(f"{group}.{key}={literal(found[key])}" for key in ("name", "module")),
        *(f"+{group}.kwargs.{key}={literal(value)}" for key, value in kwargs.items()),
    ]


def compose_config(overrides: Sequence[str] = ()) -> Config:
    """Compose ``conf/`` with override strings, as the command line does.

    Raises:
        UsageError: an override that does not fit.
    """
    store_defaults()
    with hydra_errors(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return parse_config(compose("config", overrides=expand_files(overrides)))


def parse_config(composed: DictConfig) -> Config:
    """Turn a composed Hydra configuration into a checked :class:`Config`.

    Raises:
        UsageError: as :func:`config_from_plain`; an option without its value.
    """
    try:
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        where = error.full_key or "configuration"
        raise UsageError(f"{where}: {reason} (see `fedlite <command> --help`)") from error
    assert isinstance(plain, dict)
    return config_from_plain({str(key): value for key, value in plain.items()})


@contextmanager
def hydra_errors() -> Iterator[None]:
    """Within, what Hydra finds wrong is an error of the user.

    Raises:
        UsageError: in one line, with what would be right.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_hydra_reason(error)) from None  # Hydra's own report tells no more


def _hydra_reason(error: Exception) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return _no_such_choice(group, choice, choices(group))
    if wrong := re.match(r"Could not override '([\w.-]+)'", str(error)):
        return _unknown_option(wrong[1])
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    lines = [line.strip() for line in f"{error}\n{cause or ''}".splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("To append", "full_key", "object_type"))]
    return " ".join(kept) + " (see `fedlite <command> --help`)"


def _no_such_choice(group: str, choice: str, there: Sequence[str]) -> str:
    return f"{group}={choice}: no such choice; choose from {', '.join(there)}"


def _unknown_option(key: str) -> str:
    if ".kwargs." in key:
        return f"{key}: not among the kwargs that the group's file holds; +{key}=… adds it"
    known = [option.key for option in options_of(Config)]
    close = difflib.get_close_matches(key, [*known, *{one.split(".")[0] for one in known}], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{key}: no such option{hint} (see `fedlite <command> --help`)"
