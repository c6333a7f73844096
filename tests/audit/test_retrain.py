"""Retrained students follow the run's plan, on the audit's own choice of members."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.serverapp import Grid
from torch import Tensor

from fedlite.audit import scratch
from fedlite.base.errors import FedliteError
from fedlite.federation import training
from fedlite.federation.messages import State
from fedlite.federation.rounds import Federation
from fedlite.privacy.plan import PrivacyPlan
from tests.audit.conftest import World
from tests.privacy.planted import caught

PLAIN_AVERAGE = ("federation=fedavg", "federation.ema_decay=0")


def moved(world: World, members: np.ndarray, number: int = 0, *, private: bool = True) -> Tensor:
    """The change of all weights that retraining made."""
    state: State = world.retraining.train(members, number, private=private)
    return torch.cat(
        [(state[k] - v).flatten() for k, v in world.retraining.networks.student_state.items()]
    )


def one_each(world: World) -> np.ndarray:
    """One member in every client: what it adds is nothing beside the noise."""
    return (
        np.arange(len(world.retraining.candidates.labels)) < world.retraining.candidates.num_clients
    )


def everybody(world: World) -> np.ndarray:
    return np.ones(len(world.retraining.candidates.labels), dtype=np.bool_)


def test_a_deterministic_audit_repeats_itself_and_models_differ(
    audit_world: Callable[..., World],
) -> None:
    world = audit_world()
    members = everybody(world)
    assert torch.equal(moved(world, members), moved(world, members))
    assert not torch.equal(moved(world, members), moved(world, members, number=1))


def test_a_secure_audit_has_fresh_noise(audit_world: Callable[..., World]) -> None:
    world = audit_world("privacy.randomness=secure")
    members = everybody(world)
    assert not torch.equal(moved(world, members), moved(world, members))


def test_a_member_moves_the_student_and_an_outsider_does_not(
    audit_world: Callable[..., World],
) -> None:
    world = audit_world("privacy.sample_rate=1")
    with_one = everybody(world)
    without = with_one.copy()
    without[3] = False
    assert not torch.equal(
        moved(world, with_one, private=False), moved(world, without, private=False)
    )
    before = moved(world, without)
    world.retraining.candidates.inputs[3] = 5.0
    assert torch.equal(moved(world, without), before)


def check_the_noise_of_the_plan(audit_world: Callable[..., World], trust: str) -> None:
    """Local: every client adds all of it; aggregate: all but one of the cohort do together."""
    clients = 4
    world = audit_world(*PLAIN_AVERAGE, f"privacy.trust={trust}", clients=clients, rounds=1)
    plan = world.audited.plans.example
    assert plan is not None
    whole = plan.noise_multiplier * plan.max_grad_norm * world.config.federation.learning_rate
    summed = whole * math.sqrt({"local": clients, "aggregate": clients / (clients - 1)}[trust])
    expected = summed / (plan.sample_rate * plan.expected_examples * clients)
    found = float(moved(world, one_each(world)).std())
    assert found == pytest.approx(expected, rel=0.05), "not the noise of the plan"


def check_the_clip_of_the_plan(audit_world: Callable[..., World]) -> None:
    """A wild member in the place of a tame one moves the average by two clip norms at most."""
    world = audit_world(
        *PLAIN_AVERAGE,
        "student=mlp",
        "privacy.sample_rate=1",
        "privacy.max_grad_norm=0.05",
        "distill.alpha=1",
        rounds=1,
    )
    plan, candidates = world.audited.plans.example, world.retraining.candidates
    assert plan is not None
    tame = moved(world, everybody(world))
    candidates.inputs[3] *= 1000
    candidates.labels[3] = (candidates.labels[3] + 5) % 10
    apart = float((moved(world, everybody(world)) - tame).norm())
    step = world.config.federation.learning_rate / plan.expected_examples / 2  # of two clients
    assert apart > 0
    assert apart <= 2 * plan.max_grad_norm * step * 1.01, "not the clip of the plan"


@pytest.mark.usefixtures("every_engine")
@pytest.mark.parametrize("trust", ["local", "aggregate"])
def test_the_average_carries_the_noise_of_the_plan(
    audit_world: Callable[..., World], trust: str
) -> None:
    check_the_noise_of_the_plan(audit_world, trust)


@pytest.mark.usefixtures("every_engine")
def test_members_are_clipped_as_the_plan_says(audit_world: Callable[..., World]) -> None:
    check_the_clip_of_the_plan(audit_world)


# Both planted where clients train: an audit that trained by itself would not see them.


def quarter_of_the_noise(patch: pytest.MonkeyPatch) -> None:
    real = training.train_steps

    def train(*args: Any, plan: PrivacyPlan, **options: Any) -> int:
        weak = replace(plan, noise_multiplier=plan.noise_multiplier / 4)
        return real(*args, plan=weak, **options)

    patch.setattr(training, "train_steps", train)


def ten_times_the_clip(patch: pytest.MonkeyPatch) -> None:
    """With the noise of the clip that was planned."""
    real = training.train_steps

    def train(*args: Any, plan: PrivacyPlan, **options: Any) -> int:
        wide = replace(
            plan,
            max_grad_norm=10 * plan.max_grad_norm,
            noise_multiplier=plan.noise_multiplier / 10,
        )
        return real(*args, plan=wide, **options)

    patch.setattr(training, "train_steps", train)


@pytest.mark.parametrize("trust", ["local", "aggregate"])
def test_a_bug_planted_in_the_clients_noise_shows(
    trust: str, audit_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    quarter_of_the_noise(monkeypatch)
    with caught("not the noise of the plan"):
        check_the_noise_of_the_plan(audit_world, trust)


def test_a_bug_planted_in_the_clients_clipping_shows(
    audit_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    ten_times_the_clip(monkeypatch)
    with caught("not the clip of the plan"):
        check_the_clip_of_the_plan(audit_world)


@pytest.mark.parametrize(
    ("options", "secret"),
    [
        (["privacy=client", "privacy.randomness=secure"], True),
        (["privacy=client"], False),
        (["privacy.randomness=secure"], False),
    ],
)
def test_cohorts_are_as_secret_as_those_of_the_run(
    options: list[str],
    secret: bool,
    audit_world: Callable[..., World],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, found = scratch.run_rounds, []

    def spy(grid: Grid, federation: Federation) -> None:
        found.append(federation.secret_cohort)
        real(grid, federation)

    monkeypatch.setattr(scratch, "run_rounds", spy)
    world = audit_world(*options)
    world.retraining.train(everybody(world), 0, private=True)
    assert found == [secret]


def test_without_privacy_two_models_of_the_same_data_are_the_same(
    audit_world: Callable[..., World],
) -> None:
    world = audit_world("privacy.sample_rate=1", "privacy.randomness=secure")
    members = everybody(world)
    first, second = (moved(world, members, number, private=False) for number in (0, 1))
    assert torch.equal(first, second)


def test_a_client_that_refuses_is_an_error(audit_world: Callable[..., World]) -> None:
    world = audit_world(rounds=2)
    longer = replace(world.audited, participations=3)  # than the budget allows
    with pytest.raises(FedliteError, match="did not train in round 3: epsilon"):
        replace(world.retraining, audited=longer).train(everybody(world), 0, private=True)


def test_the_pull_of_fedprox_is_retrained_with(audit_world: Callable[..., World]) -> None:
    """One step away and a part of it back: exactly the rest is left."""
    options = ("federation=fedprox", "federation.ema_decay=0", "federation.learning_rate=0.5")
    pulled, free = (
        audit_world(*options, f"federation.strategy.proximal_mu={mu}", rounds=1)
        for mu in (0.5, 0.0)
    )
    rest = moved(pulled, everybody(pulled)) / moved(free, everybody(free))
    assert float(rest.median()) == pytest.approx(0.75, rel=1e-3)


def test_client_level_noise_is_that_of_the_release(audit_world: Callable[..., World]) -> None:
    world = audit_world(*PLAIN_AVERAGE, "privacy=client", rounds=3)
    plan = world.audited.plans.client
    assert plan is not None
    expected = np.sqrt(3) * plan.update_noise_multiplier * plan.clip / plan.expected_cohort
    spread = float(moved(world, one_each(world)).std())
    assert spread == pytest.approx(expected, rel=0.05)
