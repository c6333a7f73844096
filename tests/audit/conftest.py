"""Runs to be audited on embedded digits, small enough for tests."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from fedlite.audit.audited import Audited, AuditedRun
from fedlite.audit.retrain import Retraining
from fedlite.audit.scratch import Examples, Networks
from fedlite.data.splits import Splits
from fedlite.federation.plans import Plans
from fedlite.models.build import build_model
from fedlite.runs.compose import compose_config
from fedlite.runs.splits import splits_of
from tests.conftest import TINY

SEEDED = "privacy.randomness=deterministic"


@lru_cache(maxsize=16)
def made_run(overrides: tuple[str, ...], rounds: int) -> AuditedRun:
    """A run as audits see it, with networks that were not trained; made once for all tests."""
    config = compose_config([*TINY, f"federation.rounds={rounds}", SEEDED, *overrides])
    splits = splits_of(config)
    sizes, private = splits.client_sizes(), config.privacy.private
    return AuditedRun(
        config=config,
        splits=splits,
        plans=Plans.build(config.privacy, config.federation, sizes) if private else Plans(),
        student=build_model(config.student, splits.task, seed=0).eval(),
        teacher=build_model(config.teacher, splits.task, seed=1).eval(),
        participations=rounds,
        rounds=rounds,
        directory=Path(),
    )


@pytest.fixture
def audited_run(tmp_path: Path) -> Callable[..., AuditedRun]:
    """Build a run of ``rounds`` rounds from overrides."""

    def build(*overrides: str, rounds: int = 6) -> AuditedRun:
        return replace(made_run(overrides, rounds), directory=tmp_path)

    return build


@dataclass(frozen=True)
class World:
    """A run and a way to retrain its student."""

    audited: AuditedRun
    retraining: Retraining

    @property
    def config(self) -> Audited:
        """Of the run."""
        return self.audited.config

    @property
    def splits(self) -> Splits:
        """The run's data."""
        return self.audited.splits


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
