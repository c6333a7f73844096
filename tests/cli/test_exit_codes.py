"""Exit codes: 2 for what a user has to type otherwise, 1 for what failed; one line each."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.command import COMMAND, refusal

ON_A_RUN = ("compress", "evaluate", "report", "audit", "demo", "plan")
DAMAGED = {"state.json": ("evaluate", "report", "audit"), "overrides.json": ON_A_RUN}
WRITTEN = {"state.json": ("{", "[]", "{}"), "overrides.json": ("nope", '{"a": 1}', "[1]")}


@pytest.fixture
def made(finished_run: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """A run, one of whose files holds something else."""

    def make(file: str, text: str) -> Path:
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in ("state.json", "overrides.json", "config.json", "report.json"):
            shutil.copy(finished_run / name, folder / name)
        (folder / file).write_text(text)
        return folder

    return make


@pytest.mark.parametrize("command", [*ON_A_RUN, "ledger", "verify", "predict", "device", "serve"])
@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_what_is_no_run_is_wrong_usage(
    command: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "some.csv").write_text("1\n")
    more = [f"input={tmp_path / 'some.csv'}"] if command == "predict" else []
    for typed in (str(tmp_path / name), f"run.dir={tmp_path / name}"):
        if command != "plan" or "=" not in typed:  # the options of a run that will be
            assert str(tmp_path / name) in refusal(capsys, 2, command, typed, *more)


@pytest.mark.parametrize(
    ("file", "command", "text"),
    [
        (file, command, text)
        for file, commands in DAMAGED.items()
        for command in commands
        for text in WRITTEN[file]
    ],
)
def test_a_damaged_file_of_a_run_is_a_failure(
    file: str,
    command: str,
    text: str,
    made: Callable[[str, str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = made(file, text)
    assert f"{folder}/{file}" in refusal(capsys, 1, command, str(folder))


def test_a_ledger_needs_a_whole_state(
    made: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("{", "[]", "{}"):
        folder = made("state.json", text)
        assert "state.json" in refusal(capsys, 1, "ledger", str(folder))


def test_a_reader_that_leaves_is_no_error_to_be_told() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as gone:
        done = subprocess.run([*COMMAND, "--help"], stdout=gone, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "")
