"""The converters' environments, and trained students of every kind to convert."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from torch import Tensor, nn

from fedlite.compress.compare import Comparison, compare
from fedlite.compress.exporting import export_file
from fedlite.compress.format import suffix_of
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.norms import fold_norms
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, Task
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.serve.runtime import size_of
from tests.compress.conftest import CNN, MOBILENET, Digits, digits  # noqa: F401
from tests.training import train_on_labels

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
class Student:
    """A trained network, what it sees, and the public data that it knows."""

    model: nn.Module
    task: Task
    public: PublicData


@dataclass(frozen=True)
class Made:
    """An exported file, what stayed in float in it, and how it compares with its model."""

    path: Path
    bytes: int
    float_ops: list[str]
    comparison: Comparison | None


class Recurrent(nn.Module):
    """What a user's own module may be."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.layer = nn.LSTM(input_shape[0], 16, batch_first=True)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.transpose(1, 2))[0][:, -1])


IMAGES = {
    "cnn": CNN,
    "mobilenet": MOBILENET,
    "transformer": ModelOptions(
        name="transformer",
        module="fedlite.models.transformer.Transformer",
        kwargs={"width": 16, "depth": 1},
    ),
    "scattering": ModelOptions(
        name="scattering",
        module="fedlite.models.scattering.ScatteringCNN",
        kwargs={"orientations": 2},
    ),
}
SERIES = {
    "shuffle": ModelOptions(
        name="staged",
        module="fedlite.models.staged.StagedNet",
        kwargs={
            "stages": [
                {"block": "plain", "width": 16, "depth": 1, "kernel_size": 3},
                {"block": "channel_shuffle", "width": 16, "depth": 2, "kernel_size": 3},
            ],
            "stem": None,
        },
    ),
    "lstm": ModelOptions(name="lstm", module=f"{__name__}.Recurrent"),
}


@pytest.fixture(scope="session")
def students(digits: Digits) -> dict[str, Student]:  # noqa: F811
    """All know the digits: as images, or as series of eight samples of eight signals."""
    images, task = digits.public, digits.task
    series = PublicData(images.inputs[:, 0], images.labels)
    raw = task.preprocessing
    eight = replace(raw, mean=raw.mean * 8, std=raw.std * 8)
    series_task = replace(task, input_shape=(8, 8), preprocessing=eight)
    found = {}
    for name, config in IMAGES.items():
        found[name] = Student(_trained(config, task, images), task, images)
    for name, config in SERIES.items():
        found[name] = Student(_trained(config, series_task, series), series_task, series)
    folding = CompressOptions(norm_steps=150)
    for name, one in found.items():
        folded = fold_norms(one.model, one.task, one.public, folding, AugmentOptions(), seed=0)
        found[name] = replace(one, model=folded)
    return found


def _trained(config: ModelOptions, task: Task, public: PublicData) -> nn.Module:
    model = build_model(config, task, seed=0)
    return train_on_labels(model, public, steps=150)


@pytest.fixture(scope="session")
def make(
    students: dict[str, Student],
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
            config = CompressOptions(
                quantization=quantization, converters={format: python}, **options
            )
            path = folder / f"{len(made)}{suffix_of(format)}"
            one = students[name]
            float_ops = export_file(
                format,
                one.model,
                one.task,
                path,
                config,
                one.public,
                quantized=quantization != "none",
            )
            found = compare(path, one.model, one.public, python) if run else None
            made[key] = Made(path, size_of(path), float_ops, found)
        return made[key]

    return make
