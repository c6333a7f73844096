"""Every benchmark starts and ends, on work that is as small as can be."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, TINY

SCRIPTS = REPOSITORY / "scripts"
ENGINES = ["--clients=2", "--rounds=3", "--cases", "bare", "inprocess-0"]
OURS = ["--programs", "bare", "fedlite"]  # the others need environments of their own
SMALL: dict[str, list[list[str]]] = {
    "bench_accounting": [
        [what, "--clients=3", "--rounds=3", "--plans=1"] for what in ("table", "live", "memo")
    ],
    "bench_cohort": [["--cases", "mlp", "scattering", "--clients=3", "--turns=1"]],
    "bench_device": [
        ["--device=cpu", "--student=mlp", "--side=8", "--cohorts", "1", "33", "--turns=1"]
    ],
    "bench_engines": [["student=mlp", *TINY, *ENGINES]],
    "bench_gradients": [["--students", "mlp", "cnn", "--batches=2", "--turns=1", "--side=8"]],
    "bench_ledger": [["--clients=3", "--rounds=3", "--accountant=rdp"]],
    "bench_quantize": [["--runs=2", "--size=8", "--batches", "1"]],
    "bench_simulation": [
        ["--private", "--student=mlp", "--clients=2", "--rounds=3", "--turns=1", *OURS]
    ],
}
ELSEWHERE = {"bench_rounds"}  # with more to check


def test_every_benchmark_is_here() -> None:
    assert set(SMALL) | ELSEWHERE == {path.stem for path in SCRIPTS.glob("bench_*.py")}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param(name, arguments, id=f"{name}-{arguments[0]}")
        for name, several in SMALL.items()
        for arguments in several
    ],
)
def test_it_runs(name: str, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
