"""Fixtures of the privacy rules."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedlite.runs.config import Config
from tests.privacy.world import ClientWorld


@pytest.fixture
def client_world(tiny_config: Callable[..., Config], tmp_path: Path) -> Callable[..., ClientWorld]:
    """Build the clients of a tiny configuration with extra overrides."""

    def build(*overrides: str) -> ClientWorld:
        return ClientWorld(tiny_config(*overrides), tmp_path)

    return build
