"""A run whose networks are on another device: the same stages, files and numbers.

A second device stands in for a GPU (:mod:`tests.second_device`): whatever is not moved fails.
"""

import json
from pathlib import Path

import pytest
import torch

from fedlite.base.compute import client_device
from fedlite.base.errors import UsageError
from fedlite.base.tensors import load_tensors
from fedlite.cli.main import run
from fedlite.federation import workbench
from fedlite.runs.compose import compose_config
from fedlite.runs.execute import with_device
from tests.conftest import TINY
from tests.second_device import NAME, Second, second_device

__all__ = ["second_device"]

SMALL = (
    *TINY,
    "student=mlp",
    "student.kwargs.hidden=[16]",
    "teacher.cache_dir=null",
    "federation.rounds=2",
    "dataset.augment.shift=1",
    "dataset.augment.noise=0.1",
    "privacy.accountant=rdp",
    "tracking=quiet",
)
WEIGHTS = ("teacher.pt", "public_student.pt", "federated_student.pt")


def test_a_gpu_that_is_absent_is_one_line_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(["simulate", *SMALL, "device=cuda", f"run.dir={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fedlite: device=cuda: torch ")
    assert "use device=cpu" in line
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"fedlite.log"}


def test_a_device_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="device=gpu"):
        compose_config(["device=gpu"])


@pytest.mark.usefixtures("second_device")
def test_deterministic_mode_leaves_the_processor_only_by_name() -> None:
    def device(*options: str) -> str:
        return with_device(compose_config(options)).device

    seeded = "privacy.randomness=deterministic"
    assert [device(), device("device=cuda"), device("device=cpu")] == [NAME, NAME, "cpu"]
    assert [device(seeded), device(seeded, "device=cuda")] == ["cpu", NAME]


@pytest.mark.slow
@pytest.mark.usefixtures("second_device")
def test_a_run_on_another_device_is_the_run_on_the_processor_but_for_rounding(
    tmp_path: Path,
) -> None:
    seeded = "privacy.randomness=deterministic"
    for device in ("cpu", "cuda"):
        before = Second.operations
        folder = tmp_path / device
        assert run(["federate", *SMALL, seeded, f"device={device}", f"run.dir={folder}"]) == 0
        assert (Second.operations > before) == (device == "cuda")
    for name in WEIGHTS:
        there, here = (load_tensors(tmp_path / device / name) for device in ("cuda", "cpu"))
        for key, value in here.items():
            torch.testing.assert_close(there[key], value, rtol=1e-3, atol=1e-3, msg=f"{name} {key}")
    assert json.loads((tmp_path / "cuda" / "config.json").read_text())["device"] == NAME


@pytest.mark.slow
@pytest.mark.usefixtures("second_device")
def test_all_stages_do_their_work_there_and_hand_on_plain_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients, compression, measuring, report and attacks; a resumed run may go back."""
    asked: set[str] = set()

    def recorded(wanted: str) -> torch.device:
        asked.add(wanted)
        return client_device(wanted)

    monkeypatch.setattr(workbench, "client_device", recorded)
    folder = f"run.dir={tmp_path / 'run'}"
    quick = ("compress.norms=keep", "compress.ratio=0.3", "compress.sparsity=0.2")
    assert run(["simulate", *SMALL, *quick, folder]) == 0
    assert asked == {NAME}
    asked.clear()
    attacks = (
        "audit=quick",
        "audit.parts=[dirac,membership]",
        "audit.shadows=4",
        "audit.targets=1",
    )
    assert run(["audit", str(tmp_path / "run"), *attacks]) == 0
    assert asked == {NAME}
    for name in WEIGHTS:
        state = torch.load(tmp_path / "run" / name, weights_only=True)
        assert {value.device.type for value in state.values()} == {"cpu"}
    again = ("device=cpu", "run.resume=true", "federation.rounds=2")
    before = Second.operations
    assert run(["simulate", *SMALL, *quick, folder, *again]) == 0
    assert Second.operations == before
