"""Fixtures of the federation room."""

import pytest
from flwr.clientapp import ClientApp

from fedlite.federation.transport.grid import InProcessGrid


@pytest.fixture(scope="session", autouse=True)
def _flower_identity() -> None:
    """Flower refuses to make messages in a process that belongs to no run; a grid is one."""
    InProcessGrid(ClientApp(), 0, {})
