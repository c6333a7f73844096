"""Rule 3: sample rate, expected batch size and steps are public constants."""

from collections.abc import Callable
from dataclasses import replace

import torch

from fedlite.data import ClientData
from fedlite.privacy import DeterministicRandomness
from tests.privacy.world import ClientWorld, batch, make_plan, update_of


def test_one_example_more_changes_neither_plan_nor_ledger(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world()
    world.train(1, client_id=0)
    mine = world.splits.client(1)
    from fedlite.federation.node import Node  # the client's own view of its data

    node = Node.of(world.grid.contexts[3])
    node.world._data[1] = ClientData(1, mine.inputs[:-1], mine.labels[:-1])
    try:
        world.train(1, client_id=1)
    finally:
        node.world._data[1] = mine
    (full,), (one_less,) = world.ledger(0).entries(), world.ledger(1).entries()
    assert full == one_less
    assert full.segment == world.plan.segment if world.plan else False


def test_the_weight_in_a_reply_is_always_one(client_world: Callable[..., ClientWorld]) -> None:
    world = client_world("partition=size")
    assert len(set(world.splits.client_sizes())) > 1
    for client_id in range(world.splits.num_clients):
        metrics = world.train(1, client_id).content.metric_records["metrics"]
        assert dict(metrics) == {"num-examples": 1}


def test_the_sum_is_divided_by_the_plan_s_constant(
    client_world: Callable[..., ClientWorld],
) -> None:
    model = client_world().student
    inputs, labels = batch((1, 8, 8), 12)
    plan = make_plan(noise_multiplier=0.0, expected_examples=1)
    once = update_of(model, inputs, labels, plan, randomness=DeterministicRandomness(0))
    tenth = update_of(model, inputs, labels, replace(plan, expected_examples=10))
    assert torch.allclose(once / 10, tenth, atol=1e-6)
