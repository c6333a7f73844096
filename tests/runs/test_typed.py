"""What is typed, taken apart for a sweep, and what it is compared with when a run goes on."""

import json
from pathlib import Path

import pytest

from fedlite.base.errors import UsageError
from fedlite.runs.compose import compose_config
from fedlite.runs.directory import CONFIG_FILE, RunDirectory
from fedlite.runs.preflight import changes
from fedlite.runs.typed import values_swept


@pytest.mark.parametrize(
    ("typed", "swept"),
    [
        ("seed=1,2", ["seed=1", "seed=2"]),
        ("seed=1", ["seed=1"]),
        ("--config-dir=own,folder", ["--config-dir=own,folder"]),
        ("--config-name=small", ["--config-name=small"]),
        ("run.dir=a,b", ["run.dir=a,b"]),
    ],
)
def test_a_sweep_makes_several_of_options_alone(typed: str, swept: list[str]) -> None:
    assert values_swept(typed) == swept


@pytest.mark.parametrize("flag", ["--config-dir", "--config-dir=", "--nonsense=1"])
def test_a_flag_that_is_none_is_one_line(flag: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag}: give --config-dir=DIR or --config-name=NAME$"):
        compose_config([flag])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("dataset.keys.lables=x", "dataset.keys.labels"),
        ("dataset.keys.Groups=x", "dataset.keys.groups"),
        ("student.kwargs.chanels=[8]", "student.kwargs.channels"),
    ],
)
def test_a_key_that_is_near_one_of_the_shipped_files_is_asked_for(typed: str, meant: str) -> None:
    with pytest.raises(
        UsageError, match=rf"so far; did you mean {meant}\? \+{typed[:12]}.*adds it$"
    ):
        compose_config(["dataset=table", typed])


def test_options_that_came_after_a_run_was_started_are_none_that_changed(tmp_path: Path) -> None:
    plain = compose_config(["seed=3"]).to_plain()
    for key in ("text", "standardise", "size", "colour"):
        del plain["dataset"][key]
    for group in ("teacher", "distill"):
        del plain[group]["class_weights"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(plain))
    found = list(changes(RunDirectory(tmp_path, "run"), compose_config(["seed=4"])))
    assert found == [("seed", 3, 4)]
