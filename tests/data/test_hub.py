"""A hub that cannot be reached is found out at once; whoever wants the cache alone is heeded."""

import os
import socket
import subprocess
import sys

import pytest

from fedlite.data.hub import OFFLINE, offline_where_unreachable, reachable

REFUSED = """
from fedlite.base.errors import UsageError
from fedlite.data.options import DatasetOptions
from fedlite.data.sources.huggingface import read
options = dict(name="x", source="huggingface", root="someone/something")
options |= dict(keys={"inputs": "image", "labels": "label"})
try:
    read(DatasetOptions(**options))
except UsageError as error:
    print(error)
"""


@pytest.fixture
def closed() -> str:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_host_is_reachable_where_somebody_listens(closed: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert reachable(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert not reachable(closed)


def test_an_unreachable_hub_leaves_the_cache_alone(
    closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*OFFLINE, "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", closed)
    monkeypatch.setenv(OFFLINE[0], "0")
    offline_where_unreachable()
    assert os.environ[OFFLINE[0]] == "0"  # as the user has it
    monkeypatch.delenv(OFFLINE[0])
    offline_where_unreachable()
    assert os.environ[OFFLINE[0]] == "1"


def test_a_set_on_a_hub_that_cannot_be_reached_is_one_line(closed: str) -> None:
    """In a process of its own: the libraries read the environment when they are imported."""
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment |= {"HF_ENDPOINT": closed}
    done = subprocess.run(
        [sys.executable, "-c", REFUSED], env=environment, capture_output=True, text=True
    )
    assert done.stdout.startswith(
        "dataset.root=someone/something: cannot be loaded (the hub cannot be reached"
    )
    assert "Retrying" not in done.stderr
