"""``conf/`` holds choices; what a choice does not say is the default of the option class."""

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fedlite.base.options import defaults, options_of
from fedlite.runs.compose import UNGROUPED, compose_config, store_defaults
from fedlite.runs.conf import conf_dir
from fedlite.runs.config import Config
from tests.conf import GROUPS, NEEDS, OPTIONS

CHOICES = [(group, option) for group, option in OPTIONS if group != "experiment"]
# A file is its choice, and says so where the default class happens to choose the same.
OF_THE_CHOICE = {
    ("compress", "default"): {"quantization"},
    ("compress", "none"): {"sparsity"},
    ("compress", "search"): {"quantization"},
    ("distill", "soft"): {"loss"},
    ("engine", "inprocess"): {"name"},
    ("federation", "fedavg"): {"strategy.name"},
    ("student", "custom"): {"module", "kwargs"},
    ("teacher", "custom"): {"module", "kwargs"},
}


def content(group: str, option: str) -> dict[str, Any]:
    """What a file of a group says of it, and the files that it builds on, as flat keys."""
    path = conf_dir() / group / f"{option}.yaml"
    found = OmegaConf.load(path)
    listed = [name for name in found.pop("defaults", []) if isinstance(name, str)]  # no overrides
    built_on = [name for name in listed if not name.startswith("_")]
    if path.read_text().startswith("# @package _global_"):
        found = found[group]
    keys = [one.key.removeprefix(f"{group}.") for one in options_of(Config) if in_group(one, group)]
    plain = OmegaConf.to_container(found, resolve=True)
    said = {key: value for key in keys if (value := look(plain, key)) is not ABSENT}
    for name in reversed(built_on):
        for key, value in content(group, name).items():
            own = said.get(key, {})
            said[key] = value | own if isinstance(value, dict) else own or value
    return said


def in_group(option: Any, group: str) -> bool:
    return bool(option.key.startswith(f"{group}."))


ABSENT = object()


def look(plain: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(plain, dict) or part not in plain:
            return ABSENT
        plain = plain[part]
    return plain


def composed(*overrides: str) -> dict[str, Any]:
    """The configuration as Hydra composes it, before it is checked."""
    store_defaults()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        found = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda value: value)
def test_every_file_composes_and_parses(group: str, option: str) -> None:
    config = compose_config([f"{group}={option}", *NEEDS.get((group, option), ())])
    if group == "federation":
        assert config.federation.strategy.name == option
    elif group not in (
        "privacy",
        "compress",
        "tracking",
        "audit",
        "cascade",
        "distill",
        "experiment",
        "fleet",
        "search_student",
        "tune",
    ):
        assert getattr(config, group).name == option


@pytest.mark.parametrize(("group", "option"), CHOICES, ids=lambda value: value)
def test_what_a_file_does_not_say_is_the_default_of_the_option_class(
    group: str, option: str
) -> None:
    said, known = content(group, option), defaults(Config)[group]
    found = composed(f"{group}={option}", *NEEDS.get((group, option), ()))[group]
    given = {text.partition("=")[0] for text in NEEDS.get((group, option), ())}
    options = [one for one in options_of(Config) if in_group(one, group)]
    assert options
    for one in options:
        if one.key in given:
            continue
        key = one.key.removeprefix(f"{group}.")
        expected = said.get(key, look(known, key))
        assert look(found, key) == expected, one.key


@pytest.mark.parametrize(("group", "option"), CHOICES, ids=lambda value: value)
def test_a_composed_group_has_every_option_and_no_other(group: str, option: str) -> None:
    found = composed(f"{group}={option}")[group]
    expected = {one.key for one in options_of(Config) if in_group(one, group)}
    open_ended = {one.key for one in options_of(Config) if one.type == "a mapping"}
    assert set(flat(found, f"{group}.", open_ended)) == expected


def flat(plain: dict[str, Any], prefix: str, leaves: set[str]) -> list[str]:
    keys: list[str] = []
    for key, value in plain.items():
        whole = f"{prefix}{key}"
        inner = isinstance(value, dict) and whole not in leaves
        keys += flat(value, f"{whole}.", leaves) if inner else [whole]
    return keys


@pytest.mark.parametrize(("group", "option"), CHOICES, ids=lambda value: value)
def test_no_file_says_a_default_again(group: str, option: str) -> None:
    """Two places for one default drift apart."""
    known = defaults(Config)[group]
    again = {key for key, value in content(group, option).items() if value == look(known, key)}
    assert again <= OF_THE_CHOICE.get((group, option), set())


def test_every_group_is_one_of_the_configuration() -> None:
    groups = {folder.name for folder in GROUPS} - {"experiment"}
    assert groups == set(defaults(Config)) - set(UNGROUPED)


def test_a_run_without_options_takes_the_choices_of_its_file() -> None:
    config = compose_config()
    chosen = OmegaConf.load(conf_dir() / "config.yaml").defaults
    names = {
        key: value
        for entry in chosen
        if entry not in ("_base", "_self_")
        for key, value in entry.items()
        if not str(key).startswith("override")
    }
    assert names.pop("experiment") is None
    again = compose_config([f"{group}={name}" for group, name in names.items()])
    assert config.to_plain() | {"run": None} == again.to_plain() | {"run": None}
    assert (config.dataset.name, config.student.name, config.privacy.unit) == (
        "digits",
        "cnn",
        "example",
    )


@pytest.mark.parametrize("name", ["default", "quiet", "mlflow", "wandb"])
def test_a_quiet_run_shows_nothing_while_it_goes_on(name: str) -> None:
    tracking = compose_config([f"tracking={name}"]).tracking
    assert tracking.progress is tracking.tensorboard is (name != "quiet")
    assert tracking.tracker == (name if name in ("mlflow", "wandb") else "none")


def test_no_file_of_a_group_holds_its_defaults() -> None:
    assert not list(conf_dir().rglob("_*.yaml"))
