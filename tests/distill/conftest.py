"""The real 8x8 digits of scikit-learn as public data, and small settings to train on them."""

import pytest
import torch
from sklearn.datasets import load_digits

from fedlite.data.types import Normalise, PublicData, Task
from fedlite.distill.options import TeacherOptions
from fedlite.models.options import ModelOptions

WIDE_CNN = {"channels": [8, 16], "hidden": 32, "dropout": 0.1}


@pytest.fixture(scope="session")
def all_digits() -> PublicData:
    """All 1,797 digits, in one fixed random order."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    inputs = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)[order] / 16
    return PublicData(inputs, torch.tensor(labels, dtype=torch.int64)[order])


@pytest.fixture(scope="session")
def digits(all_digits: PublicData) -> tuple[PublicData, PublicData]:
    """280 training and 120 validation digits of them."""
    inputs, targets = all_digits.inputs, all_digits.labels
    return PublicData(inputs[:280], targets[:280]), PublicData(inputs[280:400], targets[280:400])


@pytest.fixture(scope="session")
def task() -> Task:
    return Task(
        name="digits",
        input_shape=(1, 8, 8),
        class_names=tuple("0123456789"),
        preprocessing=Normalise(scale=16.0, mean=(0.0,), std=(1.0,)),
        metric="accuracy",
        example="one digit",
    )


@pytest.fixture(scope="session")
def teacher_config() -> TeacherOptions:
    """A narrow WideCNN, so that a test trains it in about a second."""
    return TeacherOptions(
        name="cnn",
        module="fedlite.models.wide_cnn.WideCNN",
        kwargs=WIDE_CNN,
        epochs=25,
        batch_size=32,
        learning_rate=5e-3,
    )


@pytest.fixture(scope="session")
def student_config() -> ModelOptions:
    return ModelOptions("mlp", "fedlite.models.mlp.MLP", {"hidden": [32]})
