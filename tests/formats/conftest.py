"""The converters' environments, and two trained students to convert."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import nn

from fedlite.compress.check import Comparison, compare
from fedlite.compress.formats import export_file, suffix_of
from fedlite.compress.norms import fold_norms
from fedlite.compress.runtime import size_of
from fedlite.config import AugmentConfig, CompressConfig, DistillConfig
from fedlite.distill.losses import build_loss
from fedlite.distill.public import distil_on_public
from fedlite.models.build import build_model

from ..compress.conftest import MOBILENET, SHAPE, Digits, digits, student  # noqa: F401

PYTHONS = {
    "litert": "FEDLITE_LITERT_PYTHON",
    "executorch": "FEDLITE_EXECUTORCH_PYTHON",
    "coreml": "FEDLITE_EXECUTORCH_PYTHON",
}


def python_of(format: str) -> str:
    """The interpreter of the environment that has the format's converter."""
    python = os.environ.get(PYTHONS[format])
    if python is None:
        pytest.skip(f"needs {PYTHONS[format]}; run make test-formats")
    return python


@dataclass(frozen=True)
class Made:
    """An exported file, what stayed in float in it, and how it compares with its model."""

    path: Path
    bytes: int
    float_ops: list[str]
    comparison: Comparison | None


@pytest.fixture(scope="session")
def students(digits: Digits, student: nn.Module) -> dict[str, nn.Module]:  # noqa: F811
    """A CNN, and a mobile student whose norms were folded; both know the digits."""
    mobile = build_model(MOBILENET, SHAPE, 10, seed=0)
    distil_on_public(
        mobile,
        mobile,
        digits.public,
        steps=150,
        batch_size=64,
        learning_rate=5e-3,
        weight_decay=0.0,
        loss=build_loss(DistillConfig(alpha=1.0)),
        augment=AugmentConfig(),
        seed=0,
    )
    config = CompressConfig(norm_steps=150)
    folded = fold_norms(mobile, digits.task, digits.public, config, AugmentConfig(), seed=0)
    return {"cnn": student, "mobilenet": folded}


@pytest.fixture(scope="session")
def make(
    students: dict[str, nn.Module],
    digits: Digits,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Made]:
    """Export a student to a format as an option string says, compare it; each once a session."""
    folder = tmp_path_factory.mktemp("formats")
    made: dict[tuple[object, ...], Made] = {}

    def make(
        format: str, name: str, quantization: str, run: bool = True, **options: object
    ) -> Made:
        key = (format, name, quantization, *sorted(options.items()))
        if key not in made:
            python = python_of(format)
            config = CompressConfig(
                quantization=quantization, converters={format: python}, **options
            )
            path = folder / f"{len(made)}{suffix_of(format)}"
            model = copy.deepcopy(students[name])
            float_ops = export_file(
                format,
                model,
                digits.task,
                path,
                config,
                digits.public,
                quantized=quantization != "none",
            )
            found = compare(path, model, digits.public, python) if run else None
            made[key] = Made(path, size_of(path), float_ops, found)
        return made[key]

    return make
