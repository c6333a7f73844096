"""Rule 4: every planned step is taken and charged, empty Poisson batches included."""

from collections.abc import Callable

import torch

from fedlite.config import DistillConfig
from fedlite.distill.losses import build_loss
from fedlite.privacy import DeterministicRandomness, train_steps
from tests.privacy.world import ClientWorld, batch, make_plan, update_of


def test_steps_taken_and_charged_are_the_steps_planned_when_batches_are_mostly_empty(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world("federation.local_steps=40", "privacy.sample_rate=0.001")
    world.train(1)
    (entry,) = world.ledger().entries()
    assert entry.steps == 40

    inputs, labels = batch((1, 8, 8), 10)
    taken = train_steps(
        world.student,
        build_loss(DistillConfig()),
        inputs,
        labels,
        torch.zeros(10, 10),
        steps=40,
        sample_rate=0.001,
        expected_batch_size=1.0,
        learning_rate=0.01,
        momentum=0.0,
        randomness=DeterministicRandomness(0),
        plan=make_plan(noise_multiplier=1.0, sample_rate=0.001, steps=40),
    )
    assert taken == 40


def test_an_empty_batch_moves_the_weights_by_its_noise(
    client_world: Callable[..., ClientWorld],
) -> None:
    inputs, labels = batch((1, 8, 8), 3)
    plan = make_plan(
        noise_multiplier=2.0, sample_rate=1e-9, expected_examples=10**9, max_grad_norm=0.5
    )
    moved = update_of(client_world().student, inputs, labels, plan)
    assert torch.isfinite(moved).all()
    assert 0.95 < float(moved.std()) < 1.05  # noise multiplier x max grad norm = 1
