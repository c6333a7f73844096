"""One round of training on one client, the same function for clients and audits."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedlite.audit import scratch
from fedlite.distill.answers import Answers
from fedlite.distill.loss import TaughtExamples, build_loss
from fedlite.distill.options import DistillOptions
from fedlite.federation import client_app, training
from fedlite.federation.training import LocalWork, proximal_pull, train_client, train_cohort
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


# --- a cohort in one step -------------------------------------------------------------------

SIZES = (9, 0, 4, 20)
NOISED = make_plan(noise_multiplier=1.0, sample_rate=0.5, expected_examples=10)
ONE_STEP = LocalWork(
    steps=1,
    sample_rate=0.5,
    expected_batch_size=5.0,
    learning_rate=0.5,
    momentum=0.9,
    proximal_mu=0.3,
)


def cohort_of(module: nn.Module) -> list[TrainedPart]:
    """Clients of :data:`SIZES` examples each, of which one has none."""
    parts = []
    for seed, size in enumerate(SIZES):
        inputs, labels = batch((64,), size, seed)
        answers = Answers(torch.randn((size, 10), generator=torch.Generator().manual_seed(seed)))
        losses = TaughtExamples(build_loss(DistillOptions()), inputs, labels, answers)
        parts.append(TrainedPart(module, losses, size))
    return parts


def by_one(student: nn.Module, module: nn.Module) -> list[dict[str, Tensor]]:
    """What each client of the cohort answers alone, from the weights that the student has."""
    start, states = copy.deepcopy(student.state_dict()), []
    for number, part in enumerate(cohort_of(module)):
        student.load_state_dict(start)
        draws = DeterministicRandomness(number)
        states.append(train_client(student, part, ONE_STEP, NOISED, draws))
    student.load_state_dict(start)
    return states


def by_cohort(student: nn.Module, module: nn.Module) -> list[dict[str, Tensor]]:
    """What they answer in one step, asked in another order."""
    draws = [DeterministicRandomness(number) for number in range(len(SIZES))]
    with train_cohort(student, cohort_of(module), ONE_STEP, NOISED, draws) as state_of:
        states = {number: state_of(number) for number in (2, 0, 3, 1)}
    return [states[number] for number in range(len(SIZES))]


def test_a_cohort_s_step_is_that_of_each_client_with_the_same_draws() -> None:
    """Noise, the pull of FedProx, frozen arrays and buffers too; momentum is none in one step."""
    front, head = linear(), nn.Sequential(nn.GroupNorm(2, 10), nn.Linear(10, 10))
    front.requires_grad_(requires_grad=False)
    student = nn.Sequential(front, nn.Tanh(), head)
    student.register_buffer("constant", torch.arange(3.0))
    student.eval()
    alone, together = by_one(student, student), by_cohort(student, student)
    for one, other in zip(alone, together, strict=True):
        assert list(one) == list(other)
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-6, atol=1e-6)
    assert not torch.equal(together[0]["2.1.weight"], together[1]["2.1.weight"])
    assert all(torch.equal(one["0.weight"], front.weight) for one in together)
    assert not student.training


def test_clients_of_a_student_that_draws_have_masks_of_their_own() -> None:
    student = nn.Sequential(linear(), nn.Dropout(0.5), nn.Linear(10, 10))
    alone = by_one(student, student)
    for _ in range(2):  # found out, and known
        for one, other in zip(alone, by_cohort(student, student), strict=True):
            assert all(torch.equal(other[name], value) for name, value in one.items())
            student.load_state_dict(alone[0])
        alone = by_one(student, student)


def test_clients_and_audits_train_with_the_same_function() -> None:
    """Audits of another one would prove nothing: a bug here shows in them (tests/audit)."""
    assert client_app.train_client is training.train_client
    assert client_app.train_cohort is training.train_cohort
    assert scratch.client_app is client_app
