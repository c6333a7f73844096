"""Runs to be audited on embedded digits, small enough for tests."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedlite.audit.audited import AuditedRun
from fedlite.audit.retrain import Retraining
from fedlite.audit.scratch import Examples, Networks
from fedlite.federation.plans import Plans
from fedlite.models.build import build_model
from fedlite.runs.compose import compose_config
from fedlite.runs.splits import splits_of
from tests.conftest import TINY

SEEDED = "privacy.randomness=deterministic"


@pytest.fixture
def audited_run(tmp_path: Path) -> Callable[..., AuditedRun]:
    """A run as audits see it, with networks that were not trained."""

    def build(*overrides: str, rounds: int = 6) -> AuditedRun:
        config = compose_config([*TINY, f"federation.rounds={rounds}", SEEDED, *overrides])
        splits = splits_of(config)
        private = config.privacy.private
        sizes = splits.client_sizes()
        return AuditedRun(
            config=config,
            splits=splits,
            plans=Plans.build(config.privacy, config.federation, sizes) if private else Plans(),
            student=build_model(config.student, splits.task, seed=0).eval(),
            teacher=build_model(config.teacher, splits.task, seed=1).eval(),
            participations=rounds,
            rounds=rounds,
            directory=tmp_path,
        )

    return build


@dataclass(frozen=True)
class World:
    """A run and a way to retrain its student."""

    audited: AuditedRun
    retraining: Retraining


@pytest.fixture
def audit_world(audited_run: Callable[..., AuditedRun], tmp_path: Path) -> Callable[..., World]:
    """Build a world from overrides: ``clients`` of 20 candidates each."""

    def build(*overrides: str, clients: int = 2, rounds: int = 2) -> World:
        expected = "privacy.expected_examples=10"
        audited = audited_run(expected, *overrides, rounds=rounds)
        count, test = 20 * clients, audited.splits.test
        candidates = Examples(
            test.inputs[:count].clone(),
            test.labels[:count].clone(),
            np.arange(count) % clients,
            clients,
        )
        networks = Networks.of(audited)
        return World(audited, Retraining(audited, networks, candidates, tmp_path))

    return build


