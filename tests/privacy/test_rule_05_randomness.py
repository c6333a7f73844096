"""Rule 5: noise and sampling come from fresh secret randomness."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from fedlite.privacy import DeterministicRandomness, SecureRandomness, derive_seed
from fedlite.tracking.privacy_statement import privacy_statement
from tests.privacy.world import ClientWorld, batch, make_plan, update_of


def arrays_of(world: ClientWorld) -> list[bytes]:
    for context in world.grid.contexts.values():
        context.state.clear()
    return [array.data for array in world.train(1).content.array_records["arrays"].values()]


def test_two_runs_of_one_round_differ(client_world: Callable[..., ClientWorld]) -> None:
    world = client_world()
    assert arrays_of(world) != arrays_of(world)


def test_a_global_seed_does_not_repeat_the_noise(client_world: Callable[..., ClientWorld]) -> None:
    world = client_world()
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002  the global generator is what must not matter
    first = arrays_of(world)
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    assert arrays_of(world) != first


def test_the_planted_bug_a_seeded_generator_is_seen(
    client_world: Callable[..., ClientWorld],
) -> None:
    """The same check catches seeded noise: deterministic mode repeats itself."""
    world = client_world("privacy.randomness=deterministic")
    assert arrays_of(world) == arrays_of(world)


def test_deterministic_mode_says_not_private(finished_report: dict[str, dict[str, object]]) -> None:
    statement = privacy_statement({**finished_report["privacy"], "randomness": "deterministic"})
    assert statement.splitlines()[0].startswith("🛑 **NOT PRIVATE**")


def test_secure_normals_are_standard_normal() -> None:
    values = SecureRandomness().normal((200_000,)).double().numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-4
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    halves = values.reshape(2, -1)
    assert abs(np.corrcoef(halves)[0, 1]) < 0.02


def test_secure_uniforms_are_uniform() -> None:
    values = SecureRandomness().uniform(200_000).numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-4


def test_secure_streams_are_never_the_same() -> None:
    first, second = SecureRandomness(), SecureRandomness()
    assert not torch.equal(first.uniform(4), second.uniform(4))
    assert not torch.equal(first.uniform(4), first.uniform(4))


def test_the_noise_has_the_standard_deviation_of_the_plan(
    client_world: Callable[..., ClientWorld],
) -> None:
    model = client_world().student
    inputs, labels = batch((1, 8, 8), 5)
    quiet = update_of(model, inputs, labels, make_plan(max_grad_norm=0.5))
    plan = make_plan(max_grad_norm=0.5, noise_multiplier=3.0)
    noise = update_of(model, inputs, labels, plan, randomness=SecureRandomness()) - quiet
    assert float(noise.std()) == pytest.approx(1.5, rel=0.05)


def test_seeds_are_derived_for_each_purpose_client_and_round() -> None:
    seeds = {
        derive_seed(seed, purpose, client, server_round)
        for seed in (0, 1)
        for purpose in ("local-steps", "cohort")
        for client in range(5)
        for server_round in range(5)
    }
    assert len(seeds) == 100
    again = [DeterministicRandomness(derive_seed(0, "cohort", 1, 2)).uniform(3) for _ in range(2)]
    assert torch.equal(again[0], again[1])
