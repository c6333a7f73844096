"""Fixtures of the privacy rules."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fedlite.federation import training
from fedlite.privacy.clipping import ENGINES
from fedlite.runs.config import Config
from tests.privacy.world import ClientWorld


@pytest.fixture
def client_world(tiny_config: Callable[..., Config], tmp_path: Path) -> Callable[..., ClientWorld]:
    """Build the clients of a tiny configuration with extra overrides."""

    def build(*overrides: str) -> ClientWorld:
        return ClientWorld(tiny_config(*overrides), tmp_path)

    return build


@pytest.fixture(params=ENGINES)
def every_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Clients train with each gradient engine in turn."""
    name: str = request.param
    train = partial(training.train_steps, engine=ENGINES[name])
    monkeypatch.setattr(training, "train_steps", train)
    return name
