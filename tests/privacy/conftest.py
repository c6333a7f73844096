"""Fixtures of the privacy rules."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlite.cli import run
from fedlite.config import Config
from tests.conftest import TINY
from tests.privacy.world import ClientWorld


@pytest.fixture
def client_world(tiny_config: Callable[..., Config], tmp_path: Path) -> Callable[..., ClientWorld]:
    """Build the clients of a tiny configuration with extra overrides."""

    def build(*overrides: str) -> ClientWorld:
        return ClientWorld(tiny_config(*overrides), tmp_path)

    return build


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one whole tiny private run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert run(["simulate", *TINY, f"run.dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="session")
def finished_report(finished_run: Path) -> dict[str, dict[str, object]]:
    """Its report.json."""
    report: dict[str, dict[str, object]] = json.loads((finished_run / "report.json").read_text())
    return report
