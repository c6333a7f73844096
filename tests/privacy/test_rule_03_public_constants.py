"""Rule 3: sample rate, expected batch size and steps are public constants."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from fedlite.federation.node import Node
from flwr.app import Message

from fedlite.data.types import ClientData
from fedlite.federation import client_app
from fedlite.federation.messages import METRICS, WEIGHT
from fedlite.privacy import dp_sgd
from fedlite.privacy.ledger import Charge
from fedlite.privacy.randomness import DeterministicRandomness
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld, batch, make_plan, update_of


@contextmanager
def one_example_less(world: ClientWorld, client_id: int) -> Iterator[None]:
    """The client's data without its last example."""
    whole = world.splits.client(client_id)
    data = Node.of(world.grid.contexts[2]).world._data
    data[client_id] = ClientData(client_id, whole.inputs[:-1], whole.labels[:-1])
    try:
        yield
    finally:
        data[client_id] = whole


def settings_of(world: ClientWorld, client_id: int) -> tuple[object, ...]:
    """What one round of training is really done with, and what of it is charged and told."""
    used: list[object] = []

    class Sampler(dp_sgd.PoissonSampler):
        def __init__(self, **options: Any) -> None:
            used.extend([options["sample_rate"], options["steps"]])
            super().__init__(**options)

    class Optimizer(dp_sgd.PrivateOptimizer):
        def __init__(self, optimizer: torch.optim.Optimizer, **options: Any) -> None:
            used.append(options["expected_batch_size"])
            super().__init__(optimizer, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dp_sgd, "PoissonSampler", Sampler)
        patch.setattr(dp_sgd, "PrivateOptimizer", Optimizer)
        reply = world.train(1, client_id)
    (charge,) = world.ledger(client_id).entries()
    return (*used, charge, dict(reply.content.metric_records[METRICS]))


def check_one_example_more_changes_nothing(world: ClientWorld) -> None:
    assert world.plan is not None
    sizes = world.splits.client_sizes()
    assert sizes[0] > sizes[1] - 1
    whole = settings_of(world, client_id=0)
    with one_example_less(world, client_id=1):
        less = settings_of(world, client_id=1)
    assert whole == less, "the plan depends on the number of examples"
    sample_rate, steps, batch_size, charge, metrics = whole
    assert (sample_rate, steps) == (world.plan.sample_rate, world.plan.steps)
    assert batch_size == world.plan.expected_batch_size
    assert charge.segment == world.plan.segment  # type: ignore[attr-defined]
    assert metrics == {WEIGHT: 1}


def test_one_example_more_changes_neither_plan_nor_ledger_nor_weight(
    client_world: Callable[..., ClientWorld],
) -> None:
    check_one_example_more_changes_nothing(client_world())


# --- planted bugs ---------------------------------------------------------------------------


def sizes_seen(patch: pytest.MonkeyPatch) -> list[int]:
    """How many examples the client at work holds, last in the list."""
    real, sizes = Node.of, list[int]()

    def of(context: Any) -> Node:
        node = real(context)
        sizes.append(len(node.world.client_data(node.client_id)))
        return node

    patch.setattr(Node, "of", of)
    return sizes


def batch_size_from_the_data(patch: pytest.MonkeyPatch) -> None:
    """As Opacus' ``make_private``: divide by what is expected of the data that is there."""
    real, sizes = client_app.train_steps, sizes_seen(patch)

    def train(*args: Any, **options: Any) -> int:
        batch_size = sizes[-1] * options["sample_rate"]
        return real(*args, **{**options, "expected_batch_size": batch_size})

    patch.setattr(client_app, "train_steps", train)


def sample_rate_from_the_data(patch: pytest.MonkeyPatch) -> None:
    """As Opacus' ``make_private``: 1 / number of batches, in training and ledger."""
    real_charge, real_train, sizes = client_app.Charge, client_app.train_steps, sizes_seen(patch)

    def charge(*args: Any, **options: Any) -> Charge:
        return replace(real_charge(*args, **options), sample_rate=8 / sizes[-1])

    def train(*args: Any, **options: Any) -> int:
        return real_train(*args, **{**options, "sample_rate": 8 / sizes[-1]})

    patch.setattr(client_app, "Charge", charge)
    patch.setattr(client_app, "train_steps", train)


def weight_by_number_of_examples(patch: pytest.MonkeyPatch) -> None:
    """As Flower's FedAvg asks for."""
    real, sizes = client_app.trained_reply, sizes_seen(patch)

    def reply(*args: Any) -> Message:
        message = real(*args)
        message.content.metric_records[METRICS][WEIGHT] = sizes[-1]
        return message

    patch.setattr(client_app, "trained_reply", reply)


@pytest.mark.parametrize(
    "plant",
    [batch_size_from_the_data, sample_rate_from_the_data, weight_by_number_of_examples],
)
def test_planted_bugs_are_caught(
    plant: Plant, client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = client_world()
    plant(monkeypatch)
    with caught("depends on the number of examples"):
        check_one_example_more_changes_nothing(world)


# --- further promises -----------------------------------------------------------------------


def test_the_weight_of_clients_of_all_sizes_is_one(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world("partition=size")
    assert len(set(world.splits.client_sizes())) > 1
    for client_id in range(world.splits.num_clients):
        metrics = world.train(1, client_id).content.metric_records[METRICS]
        assert dict(metrics) == {WEIGHT: 1}


def test_the_sum_is_divided_by_the_plan_s_constant(
    client_world: Callable[..., ClientWorld],
) -> None:
    model = client_world().student
    inputs, labels = batch((1, 8, 8), 12)
    plan = make_plan(noise_multiplier=0.0, expected_examples=1)
    once = update_of(model, inputs, labels, plan, randomness=DeterministicRandomness(0))
    tenth = update_of(model, inputs, labels, replace(plan, expected_examples=10))
    assert torch.allclose(once / 10, tenth, atol=1e-6)
