"""The home: nothing is written there but the one cache, and nothing needs it to be writable."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def with_home(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user whose home that is, and who set nothing else."""
    ours = ("FEDLITE_CACHE", "MPLCONFIGDIR", "ORT_DISABLE_TELEMETRY")
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in ours and not key.startswith("XDG_")
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=kept | {"HOME": str(home), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_runtime_that_serves_keeps_no_record_of_itself(
    tmp_path: Path, finished_run: Path
) -> None:
    model = finished_run / "models" / "federated_student.onnx"
    code = (
        "import sys; from pathlib import Path; from fedlite.serve.runtime import open_runtime;"
        "open_runtime(Path(sys.argv[1]))"
    )
    done = with_home(tmp_path, "-c", code, str(model))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("writable", [True, False])
def test_a_command_that_draws_and_computes(
    tmp_path: Path, finished_run: Path, writable: bool
) -> None:
    folder, home = shutil.copytree(finished_run, tmp_path / "run"), tmp_path / "home"
    home.mkdir() if writable else home.touch()  # below a file nobody can write, root included
    done = with_home(home if writable else home / "user", "-m", "fedlite", "report", str(folder))
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    if writable:
        written = {path.relative_to(home) for path in home.rglob("*") if path.is_file()}
        assert all(path.is_relative_to(".cache/fedlite") for path in written), written
