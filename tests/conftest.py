"""What all tests share: where data lies, a private cache, small configurations."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from fedlite.cli.main import run
from fedlite.federation import training
from fedlite.privacy.engines import ENGINES
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config

# Every run of the suite sees the same examples; `pytest --hypothesis-profile=explore` sees others.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("repeatable")

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_DATA = REPOSITORY.parent / "shared" / "data"

# A whole run in seconds: little training, every stage real.
TINY = (
    "dataset=digits",
    "federation.num_clients=4",
    "federation.rounds=3",
    "teacher.epochs=3",
    "teacher.kwargs.channels=[8,16,16]",
    "teacher.kwargs.hidden=32",
    "distill.warm_start.epochs=3",
    "compress.recovery_steps=10",
    "compress.max_accuracy_drop=0.5",  # so little training may lose what it likes
    "compress.measure.runs=5",
    "compress.measure.warmup=1",
    "compress.measure.eager=false",
    "tracking.progress=false",
    "federation.keep=last",  # which of two students trained so little is better hangs on the noise
)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real data sets (FEDLITE_DATA)."""
    folder = Path(os.environ.get("FEDLITE_DATA", DEFAULT_DATA)).resolve()
    if not folder.is_dir():
        pytest.skip(f"real data sets are not at {folder}; set FEDLITE_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FEDLITE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    """What a test draws from torch's own generator does not hang on the tests before it."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed costs a millisecond


@pytest.fixture
def tiny_config(tmp_path: Path) -> Callable[..., Config]:
    """Compose a tiny configuration with extra overrides; it runs in ``tmp_path / 'run'``."""

    def compose(*overrides: str) -> Config:
        return compose_config([*TINY, f"run.dir={tmp_path / 'run'}", *overrides])

    return compose


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The run directory of one whole tiny run with extra overrides, to be read and copied.

    Whichever worker asks first makes it; others wait for it. A test that writes copies it first.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker has a folder of its own below it

    def shared(name: str, *overrides: str) -> Path:
        made = folder / "shared" / name
        made.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{made}.lock"):
            if not (made / "report.html").exists():
                assert run(["simulate", *TINY, *overrides, f"run.dir={made}"]) == 0
        return made

    return shared


@pytest.fixture(scope="session")
def finished_run(shared_run: Callable[..., Path]) -> Path:
    """The run directory of one whole tiny private run."""
    return shared_run("finished")


@pytest.fixture(scope="session")
def unprivate_run(shared_run: Callable[..., Path]) -> Path:
    """A run without privacy, of uneven clients, its student made small otherwise."""
    options = ("student=mlp", "compress=dynamic", "partition=dirichlet")
    return shared_run("unprivate", "privacy=none", *options)


@pytest.fixture(scope="session")
def deterministic_run(shared_run: Callable[..., Path]) -> Path:
    """A run whose noise is no secret, its norms folded."""
    options = ("student=mobilenet", "compress=weight_only", "compress.norms=fold")
    small = ("student.kwargs.channels=[16,24]", "student.kwargs.depths=[1,2]")
    steps = ("federation.rounds=1", "compress.norm_steps=5")
    return shared_run("deterministic", "privacy.randomness=deterministic", *options, *small, *steps)


@pytest.fixture(scope="session")
def aggregate_run(shared_run: Callable[..., Path]) -> Path:
    """A run under aggregate trust."""
    return shared_run("aggregate", "privacy=aggregate", "federation.num_clients=10")


@pytest.fixture(scope="session")
def finished_report(finished_run: Path) -> dict[str, dict[str, object]]:
    """Its report.json."""
    report: dict[str, dict[str, object]] = json.loads((finished_run / "report.json").read_text())
    return report


@pytest.fixture(params=ENGINES)
def every_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Clients train with each gradient engine in turn."""
    name: str = request.param
    monkeypatch.setattr(training, "ENGINES", dict.fromkeys(ENGINES, ENGINES[name]))
    return name
