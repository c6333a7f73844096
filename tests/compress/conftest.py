"""A small student that knows the digits of scikit-learn, and its files."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from fedlite.compress.onnx.export import export_onnx
from fedlite.data.types import Normalise, PublicData, Task, TestData
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from tests.tasks import shaped
from tests.training import train_on_labels

SHAPE = (1, 8, 8)
CNN = ModelOptions(name="cnn", module="fedlite.models.cnn.CNN")
MOBILENET = ModelOptions(
    name="mobilenet",
    module="fedlite.models.mobilenet.MobileNet",
    kwargs={"channels": (16, 24), "depths": (1, 2)},
)
MLP = ModelOptions(name="mlp", module="fedlite.models.mlp.MLP")


@dataclass(frozen=True)
class Digits:
    """The digits, split in two, and the task they make."""

    task: Task
    public: PublicData
    test: TestData
    raw: torch.Tensor  # of the test part, 0..16


@pytest.fixture(scope="session")
def digits() -> Digits:
    images, labels = load_digits(return_X_y=True)
    raw = torch.from_numpy(images).float().reshape(-1, *SHAPE)
    order = torch.randperm(len(raw), generator=torch.Generator().manual_seed(0))
    raw, targets = raw[order], torch.from_numpy(labels)[order].long()
    task = Task(
        name="digits",
        input_shape=SHAPE,
        class_names=tuple(f"digit {i}" for i in range(10)),
        preprocessing=Normalise(
            scale=16.0,
            mean=(float((raw[:1000] / 16).mean()),),
            std=(float((raw[:1000] / 16).std()),),
        ),
        metric="accuracy",
        example="one image of a handwritten digit",
    )
    inputs = task.prepare(raw)
    return Digits(
        task=task,
        public=PublicData(inputs[:1000], targets[:1000]),
        test=TestData(inputs[1000:], targets[1000:]),
        raw=raw[1000:],
    )


@pytest.fixture(scope="session")
def student(digits: Digits) -> nn.Module:
    """A CNN trained on the public labels; in eval mode. Copy it before changing it."""
    model = build_model(CNN, shaped(SHAPE, 10), seed=0)
    return train_on_labels(model, digits.public, steps=300)


@pytest.fixture(scope="session")
def student_path(
    student: nn.Module, digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The student as an fp32 ONNX file."""
    path = tmp_path_factory.mktemp("student") / "student.onnx"
    export_onnx(student, digits.task, path, opset=20)
    return path
