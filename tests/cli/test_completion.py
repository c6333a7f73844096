"""Completion: what is offered, and that real shells take it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedlite.cli import predict, serve
from fedlite.cli.completion import OWN_OPTIONS, SCRIPTS, offered
from fedlite.cli.help import COMMANDS
from fedlite.cli.main import run


def test_commands_are_offered() -> None:
    assert offered(["sim"]) == ["simulate"]
    assert set(COMMANDS) < set(offered([""]))
    assert offered(["help", "ver"]) == ["verify"]
    assert offered(["--completion", ""]) == ["bash", "zsh", "fish"]


def test_groups_and_their_files_are_offered() -> None:
    assert offered(["simulate", "dataset=mnist"]) == ["dataset=mnist", "dataset=mnist_writers"]
    assert offered(["compress", "compress=n"]) == ["compress=none"]
    assert {"privacy=", "privacy."} <= set(offered(["simulate", "pri"]))


def test_options_and_their_values_are_offered() -> None:
    assert offered(["simulate", "privacy.eps"]) == ["privacy.epsilon="]
    assert offered(["plan", "privacy.trust=a"]) == ["privacy.trust=aggregate"]
    assert offered(["simulate", "run.resume=t"]) == ["run.resume=true"]
    assert offered(["predict", "inp"]) == ["input="]
    assert "-m" in offered(["simulate", "-"])
    assert offered(["verify", "privacy."]) == []


def test_directories_of_runs_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "overrides.json").write_text("[]")
    (tmp_path / "my folder").mkdir()
    assert offered(["report", "my"]) == ["my folder/", "my run"]
    assert offered(["report", "run.dir=my r"]) == ["run.dir=my run"]
    assert offered(["predict", "input=my f"]) == ["input=my folder/"]
    assert offered(["report", "no/such/"]) == []


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("fedlite simu", ["simulate "]),
        ("fedlite simulate dataset=dig", ["digits "]),
        ("fedlite simulate privacy.trust=", ["local ", "aggregate "]),
        ("fedlite plan privacy.eps", ["privacy.epsilon="]),
        ("fedlite report my", ["my\\ run "]),
    ],
)
def test_bash_takes_what_is_offered(line: str, replies: list[str], tmp_path: Path) -> None:
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "overrides.json").write_text("[]")
    script = (
        f"fedlite() {{ '{sys.executable}' -m fedlite \"$@\"; }}\n{SCRIPTS['bash']}"
        f"COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _fedlite\n"
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.stdout.splitlines(), done.stderr) == (replies, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed_and_read_by_it(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--completion", shell]) == 0
    printed = capsys.readouterr().out
    assert printed == SCRIPTS[shell]
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n"], input=printed, text=True, check=True)


def test_another_shell_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--completion", "tcsh"]) == 2
    assert capsys.readouterr().err == "fedlite: --completion: give one of bash, zsh, fish\n"


def test_all_options_of_predict_and_serve_are_offered() -> None:
    assert set(OWN_OPTIONS["predict"]) == set(predict.OPTIONS)
    assert set(OWN_OPTIONS["serve"]) == {*serve.WORDS, *serve.NUMBERS}
    assert {"--json", "--invert"} <= set(offered(["predict", "--"]))
