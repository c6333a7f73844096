"""Retrained students follow the run's plan, on the audit's own choice of members."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fedlite.base.errors import FedliteError
from fedlite.federation.messages import State
from tests.audit.conftest import World

PLAIN_AVERAGE = ("federation=fedavg", "federation.ema_decay=0")


def moved(world: World, members: np.ndarray, number: int = 0, *, private: bool = True) -> Tensor:
    """The change of all weights that retraining made."""
    state: State = world.retraining.train(members, number, private=private)
    return torch.cat([(state[k] - v).flatten() for k, v in world.retraining.start.items()])


def one_each(world: World) -> np.ndarray:
    """One member in every client: what it adds is nothing beside the noise."""
    return np.arange(len(world.retraining.candidates)) < world.retraining.candidates.num_clients


def everybody(world: World) -> np.ndarray:
    return np.ones(len(world.retraining.candidates), dtype=np.bool_)


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


@pytest.mark.parametrize(("trust", "power"), [("local", 0.5), ("aggregate", 1.0)])
def test_the_average_carries_the_noise_of_the_plan(
    audit_world: Callable[..., World], trust: str, power: float
) -> None:
    """Local: every client adds all of it; aggregate: the cohort's sum does."""
    clients = 4
    world = audit_world(*PLAIN_AVERAGE, f"privacy.trust={trust}", clients=clients, rounds=1)
    plan = world.retraining.plans.example
    assert plan is not None
    per_client = plan.noise_multiplier * plan.max_grad_norm * world.config.federation.learning_rate
    expected = per_client / (plan.sample_rate * world.retraining.nominal * clients**power)
    assert float(moved(world, one_each(world)).std()) == pytest.approx(expected, rel=0.05)


def test_without_privacy_two_models_of_the_same_data_are_the_same(
    audit_world: Callable[..., World],
) -> None:
    world = audit_world("privacy.sample_rate=1", "privacy.randomness=secure")
    members = everybody(world)
    first, second = (moved(world, members, number, private=False) for number in (0, 1))
    assert torch.equal(first, second)


def test_a_client_that_fails_is_an_error(audit_world: Callable[..., World]) -> None:
    world = audit_world()
    members = everybody(world)
    members[::2] = False  # the first client is left without data
    with pytest.raises(FedliteError, match="a client failed"):
        moved(world, members)


def test_client_level_noise_is_that_of_the_release(audit_world: Callable[..., World]) -> None:
    world = audit_world(*PLAIN_AVERAGE, "privacy=client", rounds=3)
    plan = world.retraining.plans.client
    assert plan is not None
    expected = np.sqrt(3) * plan.update_noise_multiplier * plan.clip / plan.expected_cohort
    spread = float(moved(world, one_each(world)).std())
    assert spread == pytest.approx(expected, rel=0.05)


def test_the_run_directory_is_left_as_it_was(audit_world: Callable[..., World]) -> None:
    world = audit_world()
    world.retraining.train(everybody(world), 0, private=True)
    assert list(world.retraining.directory.iterdir()) == []
