"""What a worker is given and gives back, in a folder: the program, the options, the file."""

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedlite.base.elsewhere import MISSING

PROGRAM, OPTIONS, CALIBRATION = "program.pt2", "options.json", "calibration.npy"
MODEL, FLOAT_OPS = "model", "float_ops.json"


@dataclass(frozen=True)
class Quantization:
    """How to quantize; the fields are those of ``compress`` in the configuration.

    ``quantization`` is ``none``, ``static``, ``dynamic``, ``weight_only`` or ``fp16``.
    ``percentile`` is None for ranges from minimum to maximum.
    """

    quantization: str
    bits: int
    symmetric: bool
    per_channel: bool
    percentile: float | None


@dataclass(frozen=True)
class Job:
    """A program to convert: takes ``input`` (1, *shape) float32, answers logits (1, classes).

    ``calibration`` holds inputs (n, *shape), for static quantization alone. The worker writes
    the file, or folder, ``target``.
    """

    program: torch.export.ExportedProgram
    options: Quantization
    calibration: NDArray[np.float32] | None
    target: Path

    @property
    def example(self) -> torch.Tensor:
        """An input of the right shape."""
        (found,) = self.program.example_inputs[0]
        assert isinstance(found, torch.Tensor)
        return found


def write_job(
    folder: Path,
    program: torch.export.ExportedProgram,
    options: Quantization,
    calibration: NDArray[np.float32] | None,
) -> None:
    """Lay a job down in ``folder``."""
    torch.export.save(program, folder / PROGRAM)
    (folder / OPTIONS).write_text(json.dumps(dataclasses.asdict(options)))
    if calibration is not None:
        np.save(folder / CALIBRATION, calibration)


def read_float_ops(folder: Path) -> list[str]:
    """The operators that stayed in float, as the worker found them."""
    found: list[str] = json.loads((folder / FLOAT_OPS).read_text())
    return found


def work(needs: str, convert: Callable[[Job], list[str]]) -> None:
    """Do the job in the folder that the command line names; a failure is one line on stderr.

    Args:
        needs: the module that must be installed for ``convert``.
        convert: writes the file and returns the operators that stayed in float.
    """
    if importlib.util.find_spec(needs) is None:
        print(f"{needs} is not installed in {sys.executable}", file=sys.stderr)
        sys.exit(MISSING)
    folder = Path(sys.argv[1])
    options: dict[str, Any] = json.loads((folder / OPTIONS).read_text())
    calibration = folder / CALIBRATION
    job = Job(
        program=torch.export.load(folder / PROGRAM),
        options=Quantization(**options),
        calibration=np.load(calibration) if calibration.exists() else None,
        target=folder / MODEL,
    )
    try:
        float_ops = convert(job)
    except Exception as error:  # converters raise many kinds
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        print(f"{type(error).__name__}: {reason}", file=sys.stderr)
        sys.exit(1)
    (folder / FLOAT_OPS).write_text(json.dumps(float_ops))
