"""One round of training on one client, the same function for clients and audits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedlite.audit import scratch
from fedlite.federation import client_app, training
from fedlite.federation.training import LocalWork, proximal_pull, train_client
from fedlite.federation.workbench import TrainedPart
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import DeterministicRandomness
from fedlite.runs.config import Config
from fedlite.runs.stages.federate import client_options
from tests.privacy.world import batch, make_plan
from tests.tasks import shaped

EXAMPLES = 12
EVERYTHING = LocalWork(
    steps=1, sample_rate=1.0, expected_batch_size=4.0, learning_rate=0.5, momentum=0.0
)


def linear() -> nn.Linear:
    model = nn.Linear(64, 10)
    nn.init.constant_(model.weight, 0.01)
    return model


def part_of(model: nn.Module) -> TrainedPart:
    inputs, labels = batch((64,), EXAMPLES)

    def losses(model: nn.Module, rows: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(inputs[rows]), labels[rows], reduction="none")

    return TrainedPart(model, losses, EXAMPLES)


def trained(
    model: nn.Module, work: LocalWork, plan: PrivacyPlan | None = None
) -> dict[str, Tensor]:
    return train_client(model, part_of(model), work, plan, DeterministicRandomness(0))


# --- the numbers of the work ----------------------------------------------------------------


def test_under_a_plan_all_numbers_are_the_plan_s_whatever_a_client_holds(
    tiny_config: Callable[..., Config],
) -> None:
    options = client_options(
        tiny_config("privacy.sample_rate=0.9", "federation.local_steps=7"), shaped((1, 8, 8))
    )
    plan = make_plan(steps=3, sample_rate=0.25, expected_examples=80)
    work = LocalWork.of(options, plan, num_examples=55)
    assert work == LocalWork.of(options, plan, num_examples=56)
    assert (work.steps, work.sample_rate, work.expected_batch_size) == (3, 0.25, 20.0)
    assert (work.learning_rate, work.momentum) == (options.learning_rate, options.momentum)


def test_without_a_plan_they_are_those_of_the_run_and_of_the_client(
    tiny_config: Callable[..., Config],
) -> None:
    options = client_options(
        tiny_config("privacy=none", "privacy.sample_rate=0.5", "federation.local_steps=7"),
        shaped((1, 8, 8)),
    )
    work = LocalWork.of(options, None, num_examples=56, proximal_mu=0.25)
    assert (work.steps, work.sample_rate, work.expected_batch_size) == (7, 0.5, 28.0)
    assert work.proximal_mu == 0.25


# --- the training ---------------------------------------------------------------------------


def test_without_a_plan_one_step_is_the_sum_of_gradients_over_the_expected_batch() -> None:
    model = linear()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    losses = part_of(model).losses(model, torch.arange(EXAMPLES))
    gradients = torch.autograd.grad(losses.sum(), list(model.parameters()))
    state = trained(model, EVERYTHING)
    for (name, before), gradient in zip(start.items(), gradients, strict=True):
        torch.testing.assert_close(state[name], before - 0.5 * gradient / 4.0)


def test_training_starts_from_the_weights_it_is_given_and_returns_copies() -> None:
    model = linear()
    first = trained(model, EVERYTHING)
    kept = {name: value.clone() for name, value in first.items()}
    second = trained(model, EVERYTHING)
    assert all(torch.equal(first[name], value) for name, value in kept.items())
    assert not torch.equal(second["weight"], first["weight"])
    assert not any(value.requires_grad for value in second.values())


@pytest.mark.parametrize("plan", [None, make_plan(noise_multiplier=1.0)], ids=["plain", "private"])
def test_what_is_not_trained_stays_as_it_is(plan: PrivacyPlan | None) -> None:
    model = nn.Sequential(linear(), nn.GroupNorm(2, 10))
    model[0].requires_grad_(requires_grad=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = trained(model, EVERYTHING, plan)
    assert list(state) == list(before)
    moved = {name for name, value in state.items() if not torch.equal(value, before[name])}
    assert moved == {"1.weight", "1.bias"}


def test_no_pull_is_no_step_at_all_and_a_pull_ends_where_it_began() -> None:
    model = linear()
    assert proximal_pull(model, 0.0) is None
    pull = proximal_pull(model, 1.0)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 3.0
    assert pull is not None
    pull(model)
    torch.testing.assert_close(model.weight.detach(), start)


def test_clients_and_audits_train_with_the_same_function() -> None:
    """Audits of another one would prove nothing: a bug here shows in them (tests/audit)."""
    assert client_app.train_client is training.train_client
    assert scratch.client_app is client_app
