"""The digits, and a small network that knows them: teacher of one search, student of the other."""

from dataclasses import dataclass

import pytest
from torch import nn

from fedlite.data.splits import load_splits
from fedlite.data.types import PublicData, Task
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from tests.conftest import TINY
from tests.training import train_on_labels

CNN = "fedlite.models.cnn.CNN"


@dataclass(frozen=True)
class World:
    """What a search is given."""

    config: Config
    task: Task
    public: PublicData
    validation: PublicData
    trained: nn.Module


@pytest.fixture(scope="session")
def world() -> World:
    config = compose_config([*TINY, "dataset.public_fraction=0.5", "compress.measure.runs=5"])
    splits = load_splits(config.dataset, config.partition, config.federation.num_clients, 0)
    model = build_model(ModelOptions("cnn", CNN, {"channels": [8, 8]}), splits.task, seed=0)
    train_on_labels(model, splits.public, steps=120)
    return World(
        config=config,
        task=splits.task,
        public=splits.public,
        validation=splits.public_validation,
        trained=model,
    )
