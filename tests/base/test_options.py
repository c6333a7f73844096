"""Options: what a schema says of them, and one line for whatever is wrong with a value."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt, MinLen
from hypothesis import given
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.base.named import Named
from fedlite.base.options import (
    MISSING,
    NEUTRAL,
    PATH,
    PATH_OR_NAME,
    Doc,
    Option,
    Options,
    deciding,
    defaults,
    options_of,
    parse,
)
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from tests.drawn import REQUIRED, at, limits, nested, values

LOSSES = Named("kind", "fedlite.distill.losses", "build")
NAMES = "attention, decoupled, hard, hints, relational, relations, soft"


@dataclass(frozen=True)
class Inner(Options):
    """A group within a group."""

    share: Annotated[float, Gt(0), Le(1), Doc("of something")] = 0.5
    kind: Annotated[str, LOSSES, Doc("by name")] = "soft"
    mode: Annotated[Literal["on", "off"], NEUTRAL, Doc("of it")] = "on"


@dataclass(frozen=True)
class Schema(Options):
    """Every kind of option."""

    name: Annotated[str, Doc("text without a default")]
    count: Annotated[int, Ge(1), Doc("whole")] = 3
    least: Annotated[float, Doc("any number")] = 20.0
    limit: Annotated[int | None, Ge(2), Le(9), Doc("null: none")] = None
    on: Annotated[bool, Doc("or off")] = False
    bits: Annotated[Literal[8, 4], Doc("of weights")] = 8
    sizes: Annotated[list[Annotated[int, Ge(1), Le(64)]], MinLen(1), Doc("some")] = field(
        default_factory=lambda: [1, 32]
    )
    parts: Annotated[list[Literal["a", "b"]], MinLen(1), Doc("some")] = field(
        default_factory=lambda: ["a"]
    )
    kinds: Annotated[list[Annotated[str, LOSSES]], MinLen(1), Doc("by name")] = field(
        default_factory=lambda: ["soft"]
    )
    words: Annotated[list[str] | None, Doc("free")] = None
    ratios: Annotated[dict[str, Annotated[float, Ge(0), Lt(1)]], Doc("by layer")] = field(
        default_factory=dict
    )
    files: Annotated[dict[str, str], Doc("by purpose")] = field(default_factory=dict)
    root: Annotated[str | None, PATH, Doc("a folder")] = None
    source: Annotated[str | None, PATH_OR_NAME, Doc("a folder or a name")] = None
    inner: Inner = field(default_factory=Inner)


KNOWN = {option.key: option for option in options_of(Schema)}
OF_A_RUN = options_of(Config)


def refused(plain: dict[str, Any], schema: type = Schema) -> str:
    with pytest.raises(UsageError) as caught:
        parse(schema, plain)
    (line,) = str(caught.value).splitlines()
    return line


# --- what a schema says ------------------------------------------------------------------------


def test_every_option_of_a_run_has_a_help_text_of_one_line() -> None:
    assert len(OF_A_RUN) > 100
    for option in OF_A_RUN:
        assert option.help.strip() == option.help != "", option.key
        assert len(option.help.splitlines()) == 1, option.key
    assert len({option.key for option in OF_A_RUN}) == len(OF_A_RUN)


def test_an_option_is_described_in_words() -> None:
    found = {key: (one.type, one.bounds, one.choices) for key, one in KNOWN.items()}
    losses = ("attention", "decoupled", "hard", "hints", "relational", "relations", "soft")
    assert found == {
        "name": ("text", "", ()),
        "count": ("a whole number", ">= 1", ()),
        "least": ("a number", "", ()),
        "limit": ("a whole number or null", ">= 2 and <= 9", ()),
        "on": ("true or false", "", ()),
        "bits": ("one of a set", "", ("8", "4")),
        "sizes": ("a list of whole numbers", ">= 1 and <= 64", ()),
        "parts": ("a list", "", ("a", "b")),
        "kinds": ("a list", "", losses),
        "words": ("a list or null", "", ()),
        "ratios": ("a mapping", ">= 0 and < 1", ()),
        "files": ("a mapping", "", ()),
        "root": ("text or null", "", ()),
        "source": ("text or null", "", ()),
        "inner.share": ("a number", "> 0 and <= 1", ()),
        "inner.kind": ("text", "", losses),
        "inner.mode": ("one of a set", "", ("on", "off")),
    }
    assert KNOWN["inner.mode"].marks == (NEUTRAL,)
    assert (KNOWN["inner.share"].default, KNOWN["name"].default) == (0.5, MISSING)
    assert KNOWN["inner.share"].help == "of something"


def test_defaults_are_plain_and_nested() -> None:
    found = defaults(Schema)
    assert found["name"] == MISSING
    assert found["inner"] == {"share": 0.5, "kind": "soft", "mode": "on"}
    assert found["sizes"] == [1, 32]
    found["sizes"].append(7)
    assert defaults(Schema)["sizes"] == [1, 32]


# --- values that are right -----------------------------------------------------------------------


@given(st.sets(st.sampled_from([one.key for one in OF_A_RUN if one.default != MISSING])))
def test_defaults_parse_to_themselves(given_keys: set[str]) -> None:
    """Whether they are given or left out, all of them or some."""
    known = {key: at(defaults(Config), key) for key in sorted(given_keys)}
    config = parse(Config, nested(REQUIRED | known))
    assert config == parse(Config, nested(REQUIRED))
    found, expected = config.to_plain(), defaults(Config)
    for option in OF_A_RUN:
        value, default = at(found, option.key), at(expected, option.key)
        assert value == (REQUIRED[option.key] if default == MISSING else default), option.key


def test_no_other_option_of_a_run_is_without_a_default() -> None:
    assert {one.key for one in OF_A_RUN if one.default == MISSING} == set(REQUIRED)


@given(st.data())
def test_whatever_an_option_takes_is_kept_and_survives_json(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from([one.key for one in OF_A_RUN]), max_size=6))
    drawn = {one.key: data.draw(values(one), label=one.key) for one in OF_A_RUN if one.key in keys}
    config = parse(Config, nested(REQUIRED | drawn))
    for key, value in drawn.items():
        assert at(dataclasses.asdict(config), key) == value
    assert parse(Config, config.to_plain()) == config


# --- values that are wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        # out of range
        ({"count": 0}, "count=0: must be >= 1"),
        ({"count": -3.0}, "count=-3: must be >= 1"),
        ({"limit": 10}, "limit=10: must be >= 2 and <= 9"),
        ({"inner": {"share": 0}}, "inner.share=0: must be > 0 and <= 1"),
        ({"inner": {"share": 1.5}}, "inner.share=1.5: must be > 0 and <= 1"),
        ({"inner": {"share": math.nan}}, "inner.share=nan: must be > 0 and <= 1"),
        ({"inner": {"share": math.inf}}, "inner.share=inf: must be > 0 and <= 1"),
        ({"least": math.inf}, "least=inf: must be finite"),
        ({"ratios": {"blocks.0": 1.0}}, "ratios.blocks.0=1: must be >= 0 and < 1"),
        # not one of the choices
        ({"bits": 3}, "bits=3: must be one of 8, 4"),
        ({"inner": {"mode": "maybe"}}, "inner.mode=maybe: must be one of on, off"),
        (
            {"inner": {"kind": "warm"}},
            f"inner.kind=warm: must be one of {NAMES}, or a path such as my_package.module.name",
        ),
        (
            {"kinds": ["soft", "warm"]},
            f"kinds=[soft,warm]: must be one of {NAMES}, or a path such as my_package.module.name",
        ),
        # lists
        ({"sizes": []}, "sizes=[]: must hold one or more whole numbers >= 1 and <= 64"),
        ({"sizes": [1, 65]}, "sizes=[1,65]: must hold one or more whole numbers >= 1 and <= 64"),
        ({"sizes": [1, "x"]}, "sizes=[1,x]: must hold one or more whole numbers >= 1 and <= 64"),
        ({"sizes": 3}, "sizes=3: must hold one or more whole numbers >= 1 and <= 64"),
        ({"parts": ["a", "c"]}, "parts=[a,c]: must hold one or more of a, b"),
        ({"parts": []}, "parts=[]: must hold one or more of a, b"),
        (
            {"kinds": []},
            f"kinds=[]: must hold one or more of {NAMES}",
        ),
        ({"words": "abc"}, "words=abc: must be a list or null"),
        # unknown keys
        ({"cuont": 3}, "cuont: no such option"),
        ({"inner": {"shape": 3}}, "inner.shape: no such option"),
        # of another kind
        ({"count": "many"}, "count=many: must be a whole number"),
        ({"count": 1.5}, "count=1.5: must be a whole number"),
        ({"count": None}, "count=null: must be a whole number"),
        ({"limit": "few"}, "limit=few: must be a whole number or null"),
        ({"least": "much"}, "least=much: must be a number"),
        ({"on": "maybe"}, "on=maybe: must be true or false"),
        ({"name": None}, "name=null: must be text"),
        ({"name": True}, "name=true: must be text"),
        ({"name": ["a", 2]}, "name=[a,2]: must be text"),
        ({"ratios": 0.5}, "ratios=0.5: must be a mapping"),
        ({"ratios": {"head": "half"}}, "ratios.head=half: must be a number"),
        ({"files": {"train": None}}, "files.train=null: must be text"),
        (
            {"inner": "on"},
            "inner=on: holds options of its own: inner.share, inner.kind, inner.mode",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line_with_key_value_and_what_would_be_right(
    wrong: dict[str, Any], line: str
) -> None:
    assert refused({"name": "given", **wrong}) == line


def test_what_is_missing_is_named() -> None:
    assert refused({"count": 3}) == "name: missing; give name=VALUE"
    assert refused({"run": {}}, Config) == "run.dir: missing; give run.dir=VALUE"


def bounded() -> list[Option]:
    return [option for option in OF_A_RUN if option.bounds]


@pytest.mark.parametrize("option", bounded(), ids=lambda option: option.key)
def test_every_range_of_a_run_is_kept(option: Option) -> None:
    """One step beyond each end is refused, and so is what is no finite number."""
    low, high = limits(option.bounds)
    step = 1 if "whole" in f"{option.type} {option.values}" else 1e-9
    beyond: list[float] = [math.nan, math.inf]
    beyond += [low if "> " in option.bounds else low - step]
    if high < math.inf:
        beyond += [high if "< " in option.bounds else high + step]
    for number in beyond:
        value: Any = number
        if option.of_list:
            value = [number]
        elif option.type == "a mapping":
            value = {"layer": number}
        line = refused(nested(REQUIRED | {option.key: value}), Config)
        assert line.startswith(option.key)
        assert line.endswith(option.bounds)


@pytest.mark.parametrize(
    "option", [one for one in OF_A_RUN if one.choices], ids=lambda option: option.key
)
def test_every_set_of_choices_of_a_run_is_kept(option: Option) -> None:
    for value in ("nothing of the kind", None, 3):
        given_value = [value] if option.of_list else value
        line = refused(nested(REQUIRED | {option.key: given_value}), Config)
        assert line.startswith(f"{option.key}=")
        if value is not None:
            assert ", ".join(option.choices) in line


# --- what decides results ------------------------------------------------------------------------


def test_neutral_options_decide_nothing_and_paths_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    found = deciding(Schema("x", root="data", source="data", inner=Inner(mode="off")))
    assert found["root"] == found["source"] == str(tmp_path / "data")
    assert found["inner"] == {"share": 0.5, "kind": "soft"}
    assert deciding(Schema("x", source="on/the-hub"))["source"] == "on/the-hub"
    assert set(found) == {item.name for item in dataclasses.fields(Schema)}


def test_a_composed_run_parses_to_itself() -> None:
    config = compose_config()
    assert parse(Config, config.to_plain()) == config
