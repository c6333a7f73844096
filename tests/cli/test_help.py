"""Help fits a screen and names what there is."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fedlite.cli.help import COMMANDS
from fedlite.cli.main import run
from tests.conf import OPTIONS
from tests.e2e.command import COMMAND


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_fits_a_screen(command: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, flag] if command else [flag]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"fedlite {command}".rstrip() + ":")
    assert len(lines) <= 50
    assert [line for line in lines if len(line) > 80] == []
    assert any(line.startswith("usage: fedlite") for line in lines)


HEAVY = [
    "torch",
    "flwr",
    "opacus",
    "scipy",
    "numpy",
    "onnx",
    "onnxruntime",
    "optuna",
    "matplotlib",
    "dp_accounting",
    "rich",
]


@pytest.mark.parametrize(
    ("arguments", "code", "unneeded"),
    [
        (["--help"], 0, [*HEAVY, "hydra", "omegaconf", "pydantic"]),
        (["--version"], 0, [*HEAVY, "hydra", "omegaconf", "pydantic"]),
        (["plan", "--help"], 0, [*HEAVY, "hydra", "omegaconf", "pydantic"]),
        (["nonsense"], 2, [*HEAVY, "hydra", "omegaconf", "pydantic"]),
        (["simulate", "--help"], 0, [*HEAVY, "hydra", "omegaconf"]),
        (["plan", "privacy.epsilom=3"], 2, HEAVY),
        (["plan", "privacy.epsilon=-3"], 2, [*HEAVY, "hydra", "omegaconf"]),
        (["simulate", "federation.rounds=0"], 2, [*HEAVY, "hydra", "omegaconf"]),
        (["simulate", "privacy.epsilom=3"], 2, HEAVY),
        (["simulate", "dataset=mnits"], 2, HEAVY),
    ],
)
def test_what_trains_nothing_loads_nothing_that_is_slow_to_load(
    arguments: list[str], code: int, unneeded: list[str], tmp_path: Path
) -> None:
    script = (
        f"import sys; from fedlite.cli.main import run; assert run({arguments!r}) == {code}\n"
        f"loaded = set({unneeded!r}) & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_general_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("command", ["", "simulate", "federate"])
def test_help_names_every_group_that_leaves_a_choice_and_its_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run([command, "--help"] if command else ["--help"])
    shown = re.sub(r"\n {4,}", " ", capsys.readouterr().out).splitlines()
    sizes = Counter(group for group, _ in OPTIONS)
    for group in (group for group, size in sizes.items() if size > 1):
        (line,) = [line for line in shown if line.startswith(f"  {group}=")]
        named = [word.strip() for word in line.split("=", 1)[1].split("|")]
        assert named == [option for folder, option in OPTIONS if folder == group]


def test_cfg_job_prints_the_composed_configuration_and_runs_nothing(tmp_path: Path) -> None:
    """In a process of its own: Hydra's printing is part of what is tested."""
    done = subprocess.run(
        [*COMMAND, "simulate", "--cfg", "job", "privacy.epsilon=3", "student=mlp"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = OmegaConf.create(done.stdout)
    assert printed.privacy.epsilon == 3
    assert printed.student.name == "mlp"
    assert printed.federation.num_clients == 20
    assert list(tmp_path.iterdir()) == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fedlite ")
