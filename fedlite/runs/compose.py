"""Composing ``conf/`` with what is typed.

``conf/`` holds choices; the defaults of a group are those of its option class, which Hydra finds as
the file ``_base`` of that group. So an option has one default, in one place.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from fedlite.base.errors import UsageError
from fedlite.base.files import user_path
from fedlite.base.options import defaults
from fedlite.runs.conf import conf_dir
from fedlite.runs.config import Config, config_from_plain
from fedlite.runs.experiment import EXPERIMENT, experiment_overrides
from fedlite.runs.literal import CONFIG_DIR, CONFIG_NAME, key_of, literal
from fedlite.runs.pretrained import with_pretrained
from fedlite.runs.typed import (
    composable,
    own_file,
    unknown_choice,
    unknown_option,
)

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
        UsageError: there is no such file, or it holds something else.
    """
    expanded: list[str] = []
    given = {key_of(text) for text in overrides}
    for text in overrides:
        path, group = own_file(text), key_of(text)
        if path is None:
            expanded.append(text)
        elif group == EXPERIMENT:
            found = experiment_overrides(path)
            expanded += [one for one in found if key_of(one) not in given - {EXPERIMENT}]
        else:
            expanded += _model_overrides(group, path)
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
    """Compose ``conf/`` with options as they are typed.

    Raises:
        UsageError: an option that does not fit.
    """
    return with_pretrained(parse_config(composed(overrides)))


def composed(overrides: Sequence[str] = ()) -> DictConfig:
    """``conf/`` with options as they are typed, composed and not checked yet.

    ``--config-dir=DIR`` among them adds a folder like ``conf/``, and ``--config-name=NAME`` starts
    from a file of that name there instead of ``config.yaml``.

    Raises:
        UsageError: an option that is not known or cannot be read.
    """
    flags = _flags(overrides)
    ready = composable(expand_files([text for text in overrides if not text.startswith("--")]))
    store_defaults()
    name, own = flags.get(CONFIG_NAME, "config"), flags.get(CONFIG_DIR)
    places = [conf_dir()]
    if own is not None:
        folder = user_path(own).absolute()
        if not folder.is_dir():
            raise UsageError(f"{CONFIG_DIR}={own}: no such folder")
        places.append(folder)
        places.sort(key=lambda place: not (place / f"{name}.yaml").is_file())  # it comes first
        ready.append(f"hydra.searchpath=[{literal(f'file://{places[1]}')}]")
    with composing(places), initialize_config_dir(str(places[0]), version_base="1.3"):
        return compose(name, overrides=ready)


def _flags(overrides: Sequence[str]) -> dict[str, str]:
    """The values of ``--config-dir`` and ``--config-name``, as far as they are given."""
    found = {}
    for text in (one for one in overrides if one.startswith("--")):
        name, _, value = text.partition("=")
        if name not in (CONFIG_DIR, CONFIG_NAME) or not value:
            raise UsageError(f"{text}: give {CONFIG_DIR}=DIR or {CONFIG_NAME}=NAME")
        found[name] = value
    return found


def parse_config(composed: DictConfig) -> Config:
    """Turn a composed Hydra configuration into a checked :class:`Config`.

    Raises:
        UsageError: as :func:`config_from_plain`; an option without its value.
    """
    try:
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UsageError(f"{error.full_key}: missing; give {error.full_key}=VALUE") from error
    except OmegaConfBaseException as error:
        raise UsageError(f"{error.full_key or 'options'}: {_first_line(error)}") from error
    assert isinstance(plain, dict)
    return config_from_plain({str(key): value for key, value in plain.items()})


@contextmanager
def composing(places: Sequence[Path]) -> Iterator[None]:
    """Within, what cannot be composed of the files in these folders is an error of the user.

    Raises:
        UsageError: in one line, with what would be right.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_reason(error, places)) from None  # Hydra's own report tells no more


def _reason(error: Exception, places: Sequence[Path]) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        if group:
            there = {file.stem for place in places for file in (place / group).glob("*.yaml")}
            return unknown_choice(group, choice, sorted(there))
        return f"{CONFIG_NAME}={choice}: no such file in {' or '.join(map(str, places))}"
    if wrong := re.match(r"Could not override '([\w.-]+)'", str(error)):
        return unknown_option(wrong[1])
    if early := re.match(r"In '(\w+)/(.+)': Could not override '(\w+)", str(error)):
        group, name, other = early.groups()
        return (
            f"{group}={name}: chooses a {other}, so {other} must stand above {group} in the list of"
            " defaults"
        )
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    where = getattr(cause, "full_key", None)
    return f"{where}: {_first_line(cause)}" if where else _first_line(cause)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]
