"""Rule 3: sample rate, expected batch size and steps are public constants."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from flwr.app import Message
from torch import Tensor

from fedlite.data.types import ClientData
from fedlite.federation import client_app, training
from fedlite.federation.client import Client
from fedlite.federation.messages import METRICS, WEIGHT
from fedlite.federation.training import LocalWork
from fedlite.privacy import steps
from fedlite.privacy.charges import Charge
from fedlite.privacy.clipping import ClippedSum, Engine
from fedlite.privacy.engines import ENGINES
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld, batch, make_plan, update_of


@contextmanager
def one_example_less(world: ClientWorld, client_id: int) -> Iterator[None]:
    """The client's data without its last example."""
    whole = world.splits.client(client_id)
    data = world.simulation._data
    data[client_id] = ClientData(client_id, whole.inputs[:-1], whole.labels[:-1])
    try:
        yield
    finally:
        data[client_id] = whole


def settings_of(world: ClientWorld, client_id: int) -> tuple[object, ...]:
    """What one round of training is really done with, and what of it is charged and told."""
    assert world.client(client_id).workbench  # whose check of the student takes steps of its own
    used: list[object] = []
    noised: list[Tensor] = []
    real_noise, real_step = steps.add_noise, steps.Sgd.step

    class Sampler(steps.PoissonSampler):
        def __init__(self, **options: Any) -> None:
            used.extend([options["sample_rate"], options["steps"]])
            super().__init__(**options)

    def add_noise(total: ClippedSum, *args: Any) -> tuple[Tensor, ...]:
        found = real_noise(total, *args)
        noised[:] = found
        return found

    def step(self: steps.Sgd, gradients: Sequence[Tensor]) -> None:
        """The sum is divided by what turns it into the gradient that the weights are moved by."""
        divisors = [total / moved for total, moved in zip(noised, gradients, strict=True)]
        median = float(torch.cat([one.flatten() for one in divisors]).median())
        used.append(float(f"{median:.6g}"))  # to what single precision holds
        real_step(self, gradients)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "PoissonSampler", Sampler)
        patch.setattr(steps, "add_noise", add_noise)
        patch.setattr(steps.Sgd, "step", step)
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
    assert batch_size == pytest.approx(world.plan.expected_batch_size, rel=1e-5)
    assert charge.segment == world.plan.segment  # type: ignore[attr-defined]
    assert metrics == {WEIGHT: 1}


def test_one_example_more_changes_neither_plan_nor_ledger_nor_weight(
    client_world: Callable[..., ClientWorld],
) -> None:
    check_one_example_more_changes_nothing(client_world())


# --- planted bugs ---------------------------------------------------------------------------


def sizes_seen(patch: pytest.MonkeyPatch) -> list[int]:
    """How many examples the client at work holds, last in the list."""
    real, sizes = Client.of, list[int]()

    def of(context: Any) -> Client:
        client = real(context)
        sizes.append(len(client.data))
        return client

    patch.setattr(Client, "of", of)
    return sizes


def batch_size_from_the_data(patch: pytest.MonkeyPatch) -> None:
    """As Opacus' ``make_private``: divide by what is expected of the data that is there."""
    real, sizes = training.train_steps, sizes_seen(patch)

    def train(*args: Any, **options: Any) -> int:
        batch_size = sizes[-1] * options["sample_rate"]
        return real(*args, **{**options, "expected_batch_size": batch_size})

    patch.setattr(training, "train_steps", train)


def the_client_s_own_size_as_without_privacy(patch: pytest.MonkeyPatch) -> None:
    """Where there is no plan a client counts on its own examples; where there is one, never."""
    real = LocalWork.of

    def of(options: Any, plan: Any, num_examples: int, *rest: Any) -> LocalWork:
        work = real(options, plan, num_examples, *rest)
        return replace(work, expected_batch_size=work.sample_rate * num_examples)

    patch.setattr(LocalWork, "of", of)


def sample_rate_from_the_data(patch: pytest.MonkeyPatch) -> None:
    """As Opacus' ``make_private``: 1 / number of batches, in training and ledger."""
    real_charge, real_train, sizes = client_app.Charge, training.train_steps, sizes_seen(patch)

    def charge(*args: Any, **options: Any) -> Charge:
        return replace(real_charge(*args, **options), sample_rate=8 / sizes[-1])

    def train(*args: Any, **options: Any) -> int:
        return real_train(*args, **{**options, "sample_rate": 8 / sizes[-1]})

    patch.setattr(client_app, "Charge", charge)
    patch.setattr(training, "train_steps", train)


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
    [
        batch_size_from_the_data,
        the_client_s_own_size_as_without_privacy,
        sample_rate_from_the_data,
        weight_by_number_of_examples,
    ],
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


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_the_sum_is_divided_by_the_plan_s_constant(
    engine: Engine, client_world: Callable[..., ClientWorld]
) -> None:
    model = client_world().student
    inputs, labels = batch((1, 8, 8), 12)
    plan = make_plan(noise_multiplier=0.0, expected_examples=1)
    once = update_of(model, inputs, labels, plan, engine=engine)
    tenth = update_of(model, inputs, labels, replace(plan, expected_examples=10), engine=engine)
    assert torch.allclose(once / 10, tenth, atol=1e-6)
