"""One round of training on one client, or on a cohort: what clients and audits both run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from fedlite.base.errors import UsageError
from fedlite.distill.loss import JoinedExamples
from fedlite.federation.client_options import ClientOptions
from fedlite.federation.messages import State
from fedlite.federation.options import LARGEST_PULL
from fedlite.federation.workbench import TrainedPart
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.options import DEFAULT_GRADIENTS, Gradients
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import Randomness
from fedlite.privacy.steps import cohort_step, train_steps


@dataclass(frozen=True)
class LocalWork:
    """The local steps of one round, in public numbers.

    ``proximal_mu`` is the weight of FedProx' pull towards the weights that training started from,
    ``gradients`` names the engine of clipped sums.
    """

    steps: int
    sample_rate: float
    expected_batch_size: float
    learning_rate: float
    momentum: float
    proximal_mu: float = 0.0
    gradients: Gradients = DEFAULT_GRADIENTS

    @classmethod
    def of(
        cls,
        options: ClientOptions,
        plan: PrivacyPlan | None,
        num_examples: int,
        proximal_mu: float = 0.0,
    ) -> Self:
        """By the request's ``plan``; without one, the same sampled batches of the run's options,
        whose nominal size is then the client's own.

        Raises:
            UsageError: a proximal term that would carry the weights away.
        """
        pull = options.learning_rate * proximal_mu
        if not pull <= LARGEST_PULL:
            raise UsageError(
                f"request: learning rate times proximal term is {pull:g};"
                f" use {LARGEST_PULL:g} or less"
            )
        if plan is not None:
            numbers = (plan.steps, plan.sample_rate, plan.expected_batch_size)
        else:
            rate = options.sample_rate
            numbers = (options.local_steps, rate, rate * max(num_examples, 1))
        return cls(
            *numbers, options.learning_rate, options.momentum, proximal_mu, options.gradients
        )


def train_client(
    student: nn.Module,
    part: TrainedPart,
    work: LocalWork,
    plan: PrivacyPlan | None,
    randomness: Randomness,
) -> State:
    """Train ``student`` in place, from the weights it has, and return its state.

    Args:
        student: holds the round's weights.
        part: the module of it that training moves, with its loss and number of examples.
        work: the local steps.
        plan: clipping and noise; None trains without privacy on the same sampled batches.
        randomness: of sampling and noise.
    """
    train_steps(
        part.module,
        part.losses,
        part.num_examples,
        steps=work.steps,
        sample_rate=work.sample_rate,
        expected_batch_size=work.expected_batch_size,
        learning_rate=work.learning_rate,
        momentum=work.momentum,
        randomness=randomness,
        plan=plan,
        engine=ENGINES[work.gradients],
        after_step=proximal_pull(student, work.learning_rate * work.proximal_mu),
    )
    return _copy_of_state(student)


@contextmanager
def train_cohort(
    student: nn.Module,
    parts: Sequence[TrainedPart],
    work: LocalWork,
    plan: PrivacyPlan,
    randomness: Sequence[Randomness],
) -> Iterator[Callable[[int], State]]:
    """What :func:`train_client` returns for each of several clients, made in one step for all.

    Yields a function from a client's place to its state; it raises where this client fails.

    Args:
        student: holds the round's weights; within the context nothing else may change them.
        parts: of each client, of one module under one loss.
        work: of each client: a single step.
        plan: clipping and noise.
        randomness: of each client's sampling and noise.
    """
    assert work.steps == 1
    with cohort_step(
        parts[0].module,
        JoinedExamples([part.losses for part in parts]),
        [part.num_examples for part in parts],
        sample_rate=work.sample_rate,
        expected_batch_size=work.expected_batch_size,
        learning_rate=work.learning_rate,
        randomness=randomness,
        plan=plan,
        engine=ENGINES[work.gradients],
        after_step=proximal_pull(student, work.learning_rate * work.proximal_mu),
    ) as move:

        def state_of(client: int) -> State:
            move(client)
            return _copy_of_state(student)

        yield state_of


def _copy_of_state(student: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in student.state_dict().items()}


def proximal_pull(student: nn.Module, strength: float) -> Callable[[nn.Module], None] | None:
    """FedProx' term as its own step towards the weights that ``student`` has now: Opacus overwrites
    gradients, so in the loss it would vanish without a word (rule 9). None for a strength of 0.

    After one step it multiplies the noised update by the public constant 1 - strength, so the sum
    over a cohort stays what it was up to that factor: also under aggregate trust it is
    post-processing, as long as all clients are sent the same mu (docs/device-policy.md).
    """
    if strength == 0:
        return None
    start = {name: value.detach().clone() for name, value in student.named_parameters()}

    def pull(_: nn.Module) -> None:
        with torch.no_grad():
            for name, parameter in student.named_parameters():
                parameter.sub_(strength * (parameter - start[name]))

    return pull
