"""What stands at the start of a run, from the plans as they are calibrated."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedlite.report.progress import Progress
from fedlite.runs.config import Config
from fedlite.runs.directory import RunDirectory
from fedlite.runs.outline import outline
from fedlite.runs.pipeline import Pipeline

MULTIPLIER = "privacy.noise_multiplier=2"


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (
            ["privacy.epsilon=3", "privacy.accountant=rdp"],
            ["4 clients, all of them in each of 3 rounds", "epsilon 3.00 at most", "8x8 image"],
        ),
        (
            ["privacy=aggregate", "federation.num_clients=10", "privacy.accountant=rdp"],
            ["10 clients", "in a sum", "those who see sums over 9 or more clients (an assumption)"],
        ),
        (
            ["privacy=client", "federation.local_steps=2", "privacy.accountant=rdp"],
            ["2 local steps", "by the server", "all the data of one client"],
        ),
        (["privacy=none"], ["4 clients", "none", "nothing: NOT PRIVATE"]),
        (
            ["privacy.randomness=deterministic", "privacy.accountant=rdp"],
            ["4 clients", "by each client", "nothing: NOT PRIVATE"],
        ),
    ],
)
def test_three_lines_say_clients_noise_and_what_is_protected(
    options: list[str], lines: list[str], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config(*options)
    found = outline(Pipeline(config, RunDirectory(tmp_path, "id"), Progress(enabled=False), {}))
    assert [line.split()[0] for line in found] == ["plan", "noise", "protected"]
    for line, words in zip(found, lines, strict=True):
        assert words in line
