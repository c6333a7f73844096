"""Whatever ends a run early says where it lies, and a command that goes on with it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import fedlite.runs.execute
from fedlite.base.errors import FedliteError, UsageError
from fedlite.cli.go_on import command_to_go_on
from fedlite.cli.main import run
from tests.e2e.command import refusal


def ends_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Stages end with this error."""

    def stop(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(fedlite.runs.execute, "execute", stop)


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (FedliteError("no round is left"), "no round is left"),
        (OSError(28, "No space left on device", "/x"), "/x: No space left on device; free some"),
        (ValueError("a bug"), "unexpected ValueError: a bug"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("command", ["simulate", "federate"])
def test_a_failure_names_the_directory_and_the_command(
    command: str,
    error: BaseException,
    begins: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ends_with(monkeypatch, error)
    folder = tmp_path / "my run"
    line = refusal(capsys, 1, command, f"run.dir={folder}", "dataset=digits", "seed=4")
    assert line.startswith(f"fedlite: {begins}")
    ends = f"; the run lies in {folder}; go on with: fedlite {command} 'run.dir={folder}'"
    ends += " dataset=digits seed=4" + " run.resume=true" * (command == "simulate")
    assert line.endswith(ends)


def test_what_the_run_keeps_is_left_out_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "overrides.json").write_text(json.dumps(["dataset=digits", "seed=4"]))
    options = ["dataset=digits", "seed=4", f"run.dir={tmp_path}", "compress.ratio=0.5"]
    found = command_to_go_on("compress", options, tmp_path)
    assert found == f"fedlite compress run.dir={tmp_path} compress.ratio=0.5"


def test_a_refusal_names_the_command_where_a_run_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends_with(monkeypatch, UsageError("student: is too small"))
    line = refusal(capsys, 2, "federate", f"run.dir={tmp_path}", "dataset=digits")
    assert line == "fedlite: student: is too small"
    (tmp_path / "state.json").write_text(json.dumps({"run_id": "x", "stages": {"teacher": {}}}))
    line = refusal(capsys, 2, "federate", f"run.dir={tmp_path}", "dataset=digits")
    assert line.endswith(f"; the run goes on with: fedlite federate run.dir={tmp_path}")


def test_the_latest_run_is_named_by_a_word(
    tmp_path: Path,
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("ledger", "verify", "report"):
        line = refusal(capsys, 2, command, "last")
        assert "last: no run below" in line
        assert "start one with `fedlite simulate`" in line
    shutil.copytree(finished_run, tmp_path / "outputs" / "day" / "time")
    for typed in ("last", "run.dir=last"):
        assert run(["verify", typed]) == 0
        assert "outputs/day/time/deploy" in capsys.readouterr().out
        assert run(["ledger", typed]) == 0
