"""Retrained students on embedded digits, small enough for tests."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedlite.audit.retrain import Candidates, Retraining
from fedlite.data.splits import Splits
from fedlite.distill.answers import Answers
from fedlite.federation.plans import Plans
from fedlite.models.build import build_model
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.splits import splits_of
from tests.conftest import TINY


@dataclass(frozen=True)
class World:
    """A configuration, its data and a way to retrain students."""

    config: Config
    splits: Splits
    retraining: Retraining


@pytest.fixture
def audit_world(tmp_path: Path) -> Callable[..., World]:
    """Build a world from overrides: ``clients`` of 20 candidates each, taught by chance."""

    def build(*overrides: str, clients: int = 2, rounds: int = 2, **changes: Any) -> World:
        config = compose_config([*TINY, "privacy.randomness=deterministic", *overrides])
        splits = splits_of(config)
        count, test = 20 * clients, splits.test
        taught = torch.randn((count, 10), generator=torch.Generator().manual_seed(0))
        candidates = Candidates(
            test.inputs[:count], test.labels[:count], Answers(taught), np.arange(count) % clients
        )
        student = build_model(config.student, splits.task, seed=0)
        settings: dict[str, Any] = {
            "config": config,
            "plans": Plans.build(config.privacy, config.federation, splits.client_sizes()),
            "rounds": rounds,
            "nominal": 10,
            "student": student,
            "start": {name: value.clone() for name, value in student.state_dict().items()},
            "candidates": candidates,
            "directory": tmp_path,
        }
        return World(config, splits, Retraining(**(settings | changes)))

    return build
