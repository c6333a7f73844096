"""The table of stages: their order, and which options each result follows from."""

import importlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.base.options import NEUTRAL, Option, options_of, parse
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.stages.table import BY_NAME, STAGES, fingerprints, with_needed
from tests.drawn import at, values

OF_A_RUN = options_of(Config)
DEFAULT = compose_config(["run.dir=somewhere", "teacher.cache_dir=null"]).to_plain()
FOLLOWS = {  # by option or group, the longest first: the stages whose own option it is
    "run": (),
    "engine": (),
    "device": (),
    "tracking": (),
    "tracking.evaluate_every": ("plan",),
    "teacher.cache_dir": (),
    "privacy.ledger_dir": (),
    "compress.converters": (),
    "compress.signing_key": (),
    "seed": ("data",),
    "dataset": ("data",),
    "partition": ("data",),
    "federation.num_clients": ("data",),
    "teacher": ("teacher", "tune"),
    "student": ("warm_start", "search_student", "tune"),
    "distill": ("warm_start", "search_student", "tune"),
    "privacy": ("plan", "tune"),
    "privacy.expected_examples": ("tune",),  # the plan keeps it: another one is refused
    "federation": ("plan", "tune"),
    "federation.keep": ("compress",),
    "federation.compare": (),
    "fleet": ("plan",),
    "cascade": ("report",),
    "compress": ("compress", "search_student"),
    "compress.measure": ("evaluate", "search_student"),
    "compress.measure.eager": ("evaluate",),
    "compress.search": (),  # where nothing is searched; below where something is
    "compress.target": (),
    "compress.search.enabled": ("compress", "search_student"),
    "audit": ("audit",),
    "search_student": ("search_student",),
    "tune": ("tune",),
}
WHERE_SEARCHED = {
    "compress.measure": ("compress", "search_student"),
    "compress.measure.eager": ("evaluate",),
    "compress.search": ("compress", "search_student"),
    "compress.target": ("compress", "search_student"),
}
AS_LEFT_OPEN = {"privacy.client.clip": 1.0}  # values that mark as null does; the plan has others
# As they were computed before the stages were a table: a run that was started then goes on.
BEFORE = [
    (
        (),
        {
            "teacher": "38e3d070a08b76fc",
            "warm_start": "f072294b23e4a8cc",
            "plan": "4c574b288b68bde9",
            "federate": "4c574b288b68bde9",
            "compress": "6f768177dafbe14b",
            "evaluate": "a7f63b571b771299",
            "report": "a7f63b571b771299",
            "audit": "c6bd3d2e7fd65299",
        },
    ),
    (
        ("compress.search.enabled=true",),
        {
            "teacher": "38e3d070a08b76fc",
            "warm_start": "f072294b23e4a8cc",
            "plan": "4c574b288b68bde9",
            "federate": "4c574b288b68bde9",
            "compress": "5c2b30787031e9fe",
            "evaluate": "46579eda83dd70aa",
            "report": "46579eda83dd70aa",
            "audit": "f29d96f529cea5a9",
        },
    ),
    (
        ("dataset=digits", "partition=natural", "compress.measure.runs=7"),
        {
            "teacher": "db849d5d9e81d33c",
            "warm_start": "d060677475a1111b",
            "plan": "a27829a2286b87a1",
            "federate": "a27829a2286b87a1",
            "compress": "27aa3d7f1088fdb4",
            "evaluate": "c62b42049a4da9a5",
            "report": "c62b42049a4da9a5",
            "audit": "5e92e86945db0cc8",
        },
    ),
]


def test_every_stage_needs_one_that_comes_before_it() -> None:
    seen: set[str] = set()
    for stage in STAGES:
        assert (stage.needs is None) == (not seen)
        assert stage.needs is None or stage.needs in seen, stage.name
        assert stage.name not in seen
        seen.add(stage.name)
    assert set(BY_NAME) == seen


def test_every_stage_that_runs_is_the_module_of_its_name() -> None:
    for stage in STAGES:
        if stage.runs:
            assert callable(importlib.import_module(f"fedlite.runs.stages.{stage.name}").run)
    assert [stage.name for stage in STAGES if not stage.runs] == ["data"]
    assert [stage.name for stage in STAGES if stage.always] == ["report"]


def test_a_stage_comes_with_all_that_it_needs_in_order() -> None:
    to_the_report = (
        *("teacher", "warm_start", "plan", "federate", "compress", "evaluate", "report"),
    )
    assert with_needed("report") == to_the_report
    assert with_needed("audit") == (*to_the_report[:-1], "audit")
    assert with_needed("search_student") == ("teacher", "search_student")
    assert with_needed("teacher") == ("teacher",)
    assert with_needed("data") == ()


@pytest.mark.parametrize(("overrides", "marks"), BEFORE, ids=["default", "search", "natural"])
def test_the_marks_are_those_of_the_runs_that_were_started_before(
    overrides: tuple[str, ...], marks: dict[str, str]
) -> None:
    found = fingerprints(compose_config(overrides))
    assert {stage: found[stage] for stage in marks} == marks


@pytest.mark.parametrize(
    ("given", "left_open"),
    [
        ("experiment=fashion_mnist", "privacy.expected_examples=null"),
        ("experiment=mnist_writers_client", "federation.num_clients=null"),
    ],
)
def test_a_figure_that_was_worked_out_may_be_given_later(given: str, left_open: str) -> None:
    marks, open_marks = (
        fingerprints(compose_config(some)) for some in ([given], [given, left_open])
    )
    del marks["tune"], open_marks["tune"]  # a tuning divides its data by what is given
    assert marks == open_marks


def test_a_stage_without_options_of_its_own_has_the_mark_of_the_one_before() -> None:
    marks = fingerprints(compose_config())
    assert marks["federate"] == marks["plan"]
    assert marks["report"] == marks["evaluate"]
    assert len(set(marks.values())) == len(marks) - 2


def own_stages(option: Option, *, searches: bool) -> tuple[str, ...]:
    known = FOLLOWS | (WHERE_SEARCHED if searches else {})
    parts = option.key.split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(known[prefix] for prefix in prefixes if prefix in known)


def followers(names: tuple[str, ...]) -> set[str]:
    """These stages and all that need them."""
    found = set(names)
    for stage in STAGES:
        if stage.needs in found:
            found.add(stage.name)
    return found


def changed(plain: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with one other value."""
    first, _, rest = key.partition(".")
    return plain | {first: changed(plain[first], rest, value) if rest else value}


@pytest.mark.parametrize("searches", [False, True], ids=["given", "searched"])
@pytest.mark.parametrize("option", OF_A_RUN, ids=lambda option: option.key)
@settings(max_examples=4)
@given(data=st.data())
def test_an_option_changes_the_marks_of_exactly_the_stages_that_follow_from_it(
    option: Option, searches: bool, data: st.DataObject
) -> None:
    plain = changed(DEFAULT, "compress.search.enabled", searches)
    before = at(plain, option.key)
    same = (before, AS_LEFT_OPEN.get(option.key, before))
    value = data.draw(values(option).filter(lambda value: value not in same))
    first, second = (
        fingerprints(parse(Config, one)) for one in (plain, changed(plain, option.key, value))
    )
    moved = {name for name in first if first[name] != second[name]}
    assert moved == followers(own_stages(option, searches=searches))
    if NEUTRAL in option.marks:
        assert not moved


def test_every_option_is_in_the_table_of_this_test() -> None:
    """A new option has to say what follows from it."""
    neutral = {option.key for option in OF_A_RUN if not own_stages(option, searches=True)}
    kept_by_the_plan = {"privacy.expected_examples"}
    assert neutral - kept_by_the_plan == {o.key for o in OF_A_RUN if NEUTRAL in o.marks}


def test_a_path_marks_the_same_file_from_any_directory(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    near = fingerprints(compose_config(["dataset=idx", "dataset.root=data"]))
    monkeypatch.chdir("/")
    far = fingerprints(compose_config(["dataset=idx", f"dataset.root={tmp_path / 'data'}"]))
    assert near == far
