"""Paths of any name: typed, kept, composed again, printed as a hint, and pasted into a shell."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedlite.runs.execute
from fedlite.base.files import user_path, write_json
from fedlite.cli.go_on import command_to_go_on
from fedlite.cli.main import run
from fedlite.cli.parse import options_of_run, parse
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.directory import portable

ODD = [
    "Jörg (1)",
    "two  spaces",
    "a=b,c",
    "[red]x",
    "{x: 1}",
    "#no;comment",
    "it's",
    'say "hi"',
    "${seed}",
    "\\${x}\\",
    "$HOME `ls`",
    "~nobody",
    "-m",
    "漢字 и ё",
    "null",
    "'quoted'",
]
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1)


def given_to_a_shell(command: str) -> list[str]:
    """The words that a shell makes of a command line, after its first."""
    script = f"fedlite() {{ printf '%s\\0' \"$@\"; }}; {command}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=60)
@given(st.sampled_from(ODD) | NAMES.filter(lambda name: name not in (".", "..")))
def test_a_path_is_the_one_that_was_typed_wherever_it_comes_from(name: str) -> None:
    """Typed for an option and for the run; kept by the run; composed anew from what was kept; in
    the command that goes on, which a shell takes apart."""
    where = f"/somewhere/{name}"
    typed = [f"run.dir={where}/run", f"dataset.root={where}/data", f"teacher.checkpoint={where}.pt"]
    arguments = given_to_a_shell(command_to_go_on("teacher", typed, Path(f"{where}/run")))
    found = parse("teacher", arguments[1:])
    options = options_of_run(found, existing=False)
    assert sorted(options) == sorted(typed)
    assert sorted([*portable(options), typed[0]]) == sorted(typed)


@pytest.mark.parametrize("name", ODD)
def test_what_is_composed_holds_the_path_that_was_typed(name: str, tmp_path: Path) -> None:
    where = f"{tmp_path}/{name}"
    config = compose_config(
        [f"run.dir={where}", f"dataset.root={where}/data", f"privacy.policy={where}.yaml"]
    )
    assert (config.run.dir, config.dataset.root) == (where, f"{where}/data")
    assert config.privacy.policy == f"{where}.yaml"


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Runs keep their options and are interrupted before they train."""
    seen: list[Config] = []

    def stop(config: Config, overrides: list[str], *_: Any, **__: Any) -> None:
        seen.append(config)
        folder = Path(config.run.dir)
        write_json(folder / "overrides.json", portable(overrides))
        raise KeyboardInterrupt

    monkeypatch.setattr(fedlite.runs.execute, "execute", stop)
    return seen


@pytest.mark.parametrize("name", ODD)
def test_a_run_in_a_folder_of_any_name_goes_on_by_the_command_that_is_printed(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stopped: list[Config],
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    assert run(["simulate", "run.dir=run", "dataset=idx", "dataset.root=.", "seed=7"]) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"fedlite: interrupted; the run lies in {tmp_path / name / 'run'}; ")
    monkeypatch.chdir("/")
    arguments = given_to_a_shell(line.partition("go on with: ")[2])
    assert arguments[0] == "simulate"
    assert run(arguments) == 1
    first, second = stopped
    assert (second.run.dir, second.seed, second.dataset.name) == (first.run.dir, 7, "idx")
    assert second.dataset.root == str(tmp_path / name)
    assert second.run.resume


@pytest.mark.parametrize("name", [name for name in ODD if name not in ("null", "-m")])
def test_a_directory_is_found_as_a_word_whatever_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: list[Config]
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for typed in ([name], ["--", name], [f"run.dir=./{name}"]):
        assert run(["teacher", "dataset=digits", *typed]) == 1
        assert stopped.pop().run.dir == str(tmp_path / name)


@pytest.mark.parametrize("name", ["Jörg (1)", "a=b,c", "it's", "${x}"])
def test_files_of_ones_own_are_found_whatever_their_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = tmp_path / f"{name}.yaml"
    student.write_text("{name: mine, module: fedlite.models.mlp.MLP, kwargs: {hidden: [7]}}")
    experiment = tmp_path / f"{name}.yml"
    experiment.write_text("federation: {rounds: 7}")
    monkeypatch.chdir(tmp_path)
    for place in ("", f"{tmp_path}/"):
        config = compose_config(
            [f"student={place}{student.name}", f"experiment={place}{experiment.name}"]
        )
        assert config.student.kwargs == {"hidden": [7]}
        assert config.federation.rounds == 7


def test_the_home_is_meant_by_a_tilde_that_names_nothing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert user_path("~/data") == Path("/home/someone/data")
    assert compose_config(["run.dir=~/run"]).run.dir == "/home/someone/run"
    (tmp_path / "~").mkdir()
    assert user_path("~") == tmp_path / "~"


@pytest.mark.parametrize("text", ["Ärger", "c'est", "a: b", "日本"])
def test_text_in_any_script_is_a_value(text: str) -> None:
    assert compose_config([f"dataset.name={text}"]).dataset.name == text


def test_a_list_of_text_in_any_script_is_a_value() -> None:
    found = compose_config(["dataset.class_names=[Ärger, Freude, 'weder, noch']"])
    assert found.dataset.class_names == ["Ärger", "Freude", "weder, noch"]
