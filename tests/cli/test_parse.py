"""One way to type: flags, options, and a directory as a word or as ``run.dir=DIR``."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from sklearn.datasets import load_digits

import fedlite.cli.demo
import fedlite.runs.execute
from fedlite.base.errors import FedliteError, UsageError
from fedlite.cli.help import COMMANDS
from fedlite.cli.main import run
from fedlite.cli.parse import Arguments, options_of_run, parse
from fedlite.runs.config import Config
from fedlite.serve.verify import deploy_folder
from tests.conftest import TINY
from tests.e2e.command import COMMAND, refusal

ON_A_RUN = ("compress", "evaluate", "report", "audit")
STARTING = ("simulate", "teacher", "federate", "search-student")
AGAIN = {"compress": "compress", "evaluate": "evaluate", "audit": "audit"}
SAVED = ["dataset=digits", "seed=3", "privacy.epsilon=5"]


@dataclass(frozen=True)
class Job:
    """What a command is about to run."""

    config: Config
    overrides: list[str]
    stages: tuple[str, ...]
    resume: bool
    again: str | None

    @property
    def options(self) -> list[str]:
        """The overrides but for the directory, which is spelt in two ways."""
        return [text for text in self.overrides if not text.startswith("run.dir=")]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What commands would have run: they stop before."""
    found: list[Job] = []

    def stop(config: Config, overrides: Any, stages: Any, *, resume: bool, again: Any) -> None:
        found.append(Job(config, list(overrides), tuple(stages), resume, again))
        raise FedliteError("stopped here")

    monkeypatch.setattr(fedlite.runs.execute, "execute", stop)
    return found


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A directory that holds a run, as far as its options go."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "overrides.json").write_text(json.dumps(SAVED))
    return folder


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


# --- what is typed -------------------------------------------------------------------------------


def test_arguments_are_sorted_into_flags_words_and_options(tmp_path: Path) -> None:
    odd = tmp_path / "a=b"
    odd.mkdir()
    found = parse("simulate", ["--cfg", "job", "DIR", "seed=1", "-m", str(odd), "+student.x=2"])
    assert found.flags == ["--cfg=job", "-m"]
    assert found.words == ["DIR", str(odd)]  # a directory that is there, whatever its name
    assert found.options == ["seed=1", "+student.x=2"]
    assert parse("simulate", ["--cfg", "-m"]).flags == ["--cfg", "-m"]


@given(
    st.lists(st.sampled_from(["-m", "--resolve", "word", "other", "seed=1", "run.dir=x", "a=b=c"]))
)
def test_no_argument_is_lost_and_their_order_is_kept(arguments: list[str]) -> None:
    found = parse("simulate", arguments)
    for kind in (found.flags, found.words, found.options):
        assert kind == [one for one in arguments if one in kind]
    assert len(found.flags + found.words + found.options) == len(arguments)


def test_a_command_takes_its_own_options_and_leaves_the_rest() -> None:
    found = Arguments("demo", options=["output=a=b", "seed=1", "ort=c"])
    assert found.take("output", "ort") == {"output": "a=b", "ort": "c"}
    assert found.options == ["seed=1"]
    for options, said in ((["ort="], "ort=: missing"), (["ort=a", "ort=b"], "ort: given twice")):
        with pytest.raises(UsageError, match=said):
            Arguments("demo", options=options).take("ort")
    with pytest.raises(UsageError, match="unknown option 'seed=1'; options: output, ort"):
        found.refuse_options(("output", "ort"))


@pytest.mark.parametrize("name", ["plain", "with space", "a=b", "a,b", "it's", "[x]", "{y}", "ü~"])
def test_a_directory_of_any_name_is_the_one_that_was_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: list[Job]
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for typed in (name, str(tmp_path / name)):
        assert run(["teacher", typed, "dataset=digits"]) == 1
        assert jobs.pop().config.run.dir == str(tmp_path / name)


# --- DIR and run.dir=DIR -------------------------------------------------------------------------


@pytest.mark.parametrize("command", ON_A_RUN)
def test_a_command_on_a_run_takes_its_directory_either_way(
    command: str, started: Path, monkeypatch: pytest.MonkeyPatch, jobs: list[Job]
) -> None:
    monkeypatch.chdir(started.parent)
    for typed in (str(started), f"run.dir={started}", f"run.dir='{started}'", "mine"):
        assert run([command, typed, "privacy.epsilon=7"]) == 1
    first = jobs[0]
    assert first.config.run.dir == str(started)
    assert (first.config.seed, first.config.privacy.epsilon) == (3, 7)  # saved; what is given wins
    assert first.options == ["dataset=digits", "seed=3", "privacy.epsilon=7"]
    assert (first.resume, first.again) == (True, AGAIN.get(command))
    assert [job.options for job in jobs] == [first.options] * 4
    assert [job.config for job in jobs] == [first.config] * 4
    assert [job.stages for job in jobs] == [first.stages] * 4


@pytest.mark.parametrize("command", STARTING)
def test_a_command_that_starts_a_run_takes_its_directory_either_way(
    command: str, tmp_path: Path, jobs: list[Job]
) -> None:
    folder = tmp_path / "new"
    for typed in (str(folder), f"run.dir={folder}"):
        assert run([command, typed, "dataset=digits", "seed=4"]) == 1
    first, second = jobs
    assert first.config == second.config
    assert (first.config.run.dir, first.config.seed) == (str(folder), 4)
    assert first.options == second.options == ["dataset=digits", "seed=4"]


def test_simulate_goes_on_with_a_run_only_where_it_is_told_to(
    started: Path, jobs: list[Job]
) -> None:
    for typed in (str(started), f"run.dir={started}"):
        assert run(["simulate", typed]) == 1
        assert run(["simulate", typed, "run.resume=true"]) == 1
        fresh, resumed = jobs[-2:]
        assert (fresh.resume, fresh.config.seed) == (False, 0)
        assert (resumed.resume, resumed.config.seed) == (True, 3)


def test_the_ledgers_of_a_run_are_shown_either_way(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = printed(capsys, "ledger", str(finished_run))
    assert "Largest over 4 clients" in " ".join(shown.split())
    assert printed(capsys, "ledger", f"run.dir={finished_run}") == shown
    one = printed(capsys, "ledger", str(finished_run), "client=2")
    assert printed(capsys, "ledger", "client=2", f"run.dir={finished_run}") == one != shown


def test_verify_finds_the_deployable_folder_of_a_run(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy = finished_run / "deploy"
    shown = printed(capsys, "verify", str(deploy))
    assert shown.startswith(f"{deploy}: ")
    for typed in (str(finished_run), f"run.dir={finished_run}", f"run.dir={deploy}"):
        assert printed(capsys, "verify", typed) == shown


def test_predict_finds_the_model_of_a_run(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "some.npz", inputs=load_digits().images[:3])
    given = f"input={tmp_path / 'some.npz'}"
    model = finished_run / "deploy" / "student.onnx"
    shown = printed(capsys, "predict", str(model), given)
    assert len(shown.splitlines()) == 3
    for where in (model, model.parent, finished_run):
        for typed in (str(where), f"run.dir={where}", f"model={where}"):
            assert printed(capsys, "predict", typed, given) == shown


def test_the_deployable_folder_is_that_of_a_run_or_the_folder_itself(tmp_path: Path) -> None:
    assert deploy_folder(tmp_path) == tmp_path
    (tmp_path / "deploy").mkdir()
    assert deploy_folder(tmp_path) == tmp_path / "deploy"


def test_the_page_of_a_run_is_made_either_way(
    started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    monkeypatch.setattr(fedlite.cli.demo, "run_demo", lambda *given: found.append(given))
    for typed in (str(started), f"run.dir={started}"):
        assert run(["demo", typed, "output=page", "seed=8"]) == 0
    first, second = found
    assert first == second
    overrides, output, ort = first
    assert (output, ort) == (Path("page"), None)
    kept = ["dataset=digits", "privacy.epsilon=5"]
    assert overrides == [*kept, f"run.dir={started}", "seed=8"]


def test_a_report_is_written_again_either_way(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    for typed in (str(folder), f"run.dir={folder}"):
        (folder / "report.md").unlink()
        assert str(folder / "report.md") in printed(capsys, "report", typed)
        assert (folder / "report.md").is_file()


@pytest.mark.parametrize("typed", ["{}", "run.dir={}"])
def test_a_plan_takes_the_options_of_a_run(
    typed: str, started: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("privacy.accountant=rdp", f"output={tmp_path / 'plan.png'}")
    shown = printed(capsys, "plan", typed.format(started), *options)
    assert shown == printed(capsys, "plan", *SAVED, *options)


# --- --cfg job -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--cfg", "job", "seed=6", "privacy.epsilon=3"],
        ["simulate", "seed=6", "--cfg=job", "privacy.epsilon=3"],
        ["compress", "DIR", "privacy.epsilon=3", "seed=6", "--cfg", "job"],
        ["report", "--cfg", "job", "run.dir=DIR", "privacy.epsilon=3", "seed=6"],
    ],
    ids=" ".join,
)
def test_cfg_job_prints_what_would_run_and_runs_nothing(
    arguments: list[str], started: Path
) -> None:
    """In a process of its own: Hydra's printing is part of what is tested."""
    before = sorted(started.rglob("*"))
    done = subprocess.run(
        [*COMMAND, *(text.replace("DIR", str(started)) for text in arguments)],
        cwd=started,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = OmegaConf.create(done.stdout)
    assert (shown.seed, shown.privacy.epsilon, shown.dataset.name) == (6, 3, "digits")
    assert shown.privacy.sample_rate == 0.5  # a default that no file of conf/ holds
    if arguments[0] != "simulate":
        assert shown.run.dir == str(started)
    assert sorted(started.rglob("*")) == before


# --- errors in one line --------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_flag_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, 2, command, "--verbose")
    assert f"fedlite {command}: unknown flag '--verbose'" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_two_directories_are_one_too_many(
    command: str, started: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["input=x.csv"] if command == "predict" else []
    for more in (str(started), f"run.dir={started}"):
        line = refusal(capsys, 2, command, str(started), more, *given)
        assert f"fedlite {command}: give one directory, not '{started} " in line
        assert line.endswith(f"fedlite {command} DIR")


@pytest.mark.parametrize("command", [*ON_A_RUN, "demo", "ledger", "verify"])
def test_a_command_that_needs_a_directory_says_so(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, 2, command)
    assert line.startswith(f"fedlite: fedlite {command}: give ")
    assert line.endswith(f": fedlite {command} DIR")


@pytest.mark.parametrize("command", [*ON_A_RUN, "demo"])
def test_a_directory_without_a_run_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for where in (tmp_path, tmp_path / "none"):
        for typed in (str(where), f"run.dir={where}"):
            line = refusal(capsys, 2, command, typed)
            assert f"run.dir={where}: no run there" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["seed", "privacy.epsilon", "privacy", "federation.strategy"])
def test_an_option_without_its_value_starts_no_run_of_its_name(
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    jobs: list[Job],
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in STARTING:
        assert f"{word}: missing; give {word}=VALUE" in refusal(capsys, 2, command, word)
    assert jobs == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / word).mkdir()  # a directory that is there is meant
    assert run(["teacher", word, *TINY]) == 1
    assert run(["teacher", f"run.dir={word}-2", *TINY]) == 1
    assert [Path(job.config.run.dir).name for job in jobs] == [word, f"{word}-2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["privacy.epsilon=[1"], ["[1"]),
        (["privacy.epsilom=4"], ["epsilom"]),
        (["student=no/such.yaml"], ["student=no/such.yaml"]),
        (["run.resume=maybe"], ["run.resume", "maybe"]),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be_read_are_one_line(
    options: list[str], words: list[str], started: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("simulate", "compress", "plan"):
        line = refusal(capsys, 2, command, str(started), *options)
        assert all(word in line for word in words), line


def test_options_of_no_directory_are_those_that_were_typed() -> None:
    found = options_of_run(Arguments("simulate", options=["seed=1"]), existing=False)
    assert found == ["seed=1"]
