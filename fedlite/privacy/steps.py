"""The local steps of one round: sample, clip, add noise, move; of one client, or one of many."""

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from weakref import WeakSet

import torch
from torch import Tensor, nn

from fedlite.base.compute import device_of
from fedlite.base.seeded import generator_state, seeded
from fedlite.privacy.clipping import (
    ClippedSum,
    Engine,
    ExampleLosses,
    GradientEngine,
    physical_parts,
    trained_parameters,
)
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.noise import add_noise
from fedlite.privacy.options import DEFAULT_GRADIENTS
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import Randomness
from fedlite.privacy.sampling import PoissonSampler

log = logging.getLogger(__name__)

_DRAWING: WeakSet[nn.Module] = WeakSet()  # models that were found to draw in training (dropout)


def train_steps(
    model: nn.Module,
    example_losses: ExampleLosses,
    num_examples: int,
    *,
    steps: int,
    sample_rate: float,
    expected_batch_size: float,
    learning_rate: float,
    momentum: float,
    randomness: Randomness,
    plan: PrivacyPlan | None,
    engine: Engine = ENGINES[DEFAULT_GRADIENTS],
    after_step: Callable[[nn.Module], None] | None = None,
) -> int:
    """Train ``model`` in place for exactly ``steps`` Poisson-sampled steps; return the steps taken.

    Guarantee under a ``plan``: each step is one Poisson-sampled Gaussian mechanism with
    ``plan.client_noise_multiplier``, neighbours differing in one of the ``num_examples``.

    Args:
        model: its parameters become the noised result, its buffers stay.
        example_losses: (model, rows (n,)) -> losses (n,), each of its own row alone.
        num_examples: rows are 0 to ``num_examples - 1``; private, nothing else depends on it.
        sample_rate: Poisson probability of each example in each step.
        expected_batch_size: the public constant that the noised sum is divided by (rule 3).
        learning_rate: of SGD.
        momentum: of SGD, over these steps alone.
        randomness: of sampling, noise and dropout, which is as secret as the noise then, or as
            repeatable.
        plan: clipping and noise; None trains without privacy on the same sampled batches.
        engine: how the clipped sum is made.
        after_step: an update that depends on weights alone (FedProx), applied after the noise
            because it would vanish in the loss (rule 9).

    Empty batches take their step like all others: the noise is their update (rule 4). Whatever
    raises in a step, the model is left as models are between steps: clients share it.

    Raises:
        GradientError: a batch has not exactly one gradient for each example; nothing of it is in
            the weights.
    """
    sampler = PoissonSampler(
        num_samples=num_examples, sample_rate=sample_rate, steps=steps, randomness=randomness
    )
    optimizer = Sgd(trained_parameters(model), learning_rate, momentum)
    taken, device = 0, device_of(model)

    def move(gradients: tuple[Tensor | None, ...]) -> None:
        nonlocal taken
        optimizer.step([one if one is None else one / expected_batch_size for one in gradients])
        if after_step is not None:
            after_step(model)
        taken += 1

    with _in_training(model):
        if plan is None:
            for batch in sampler:
                with seeded(randomness.seed(), device):
                    summed = plain_sum(model, example_losses, _rows(batch))
                move(summed)
            return taken
        with engine(model, example_losses, plan.max_grad_norm) as gradients:
            for batch in sampler:
                with seeded(randomness.seed(), device):
                    total = gradients.clipped_sum(_rows(batch))
                move(add_noise(total, plan.client_noise_multiplier, randomness))
        return taken


class Sgd:
    """Moves parameters as ``torch.optim.SGD`` does, bit for bit.

    Torch's own loads its compiler when a process first makes one, which takes seconds.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], learning_rate: float, momentum: float
    ) -> None:
        self._parameters, self._learning_rate = parameters, learning_rate
        self._momentum, self._velocity = momentum, dict[nn.Parameter, Tensor]()

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """One step by a gradient for each parameter; None leaves it where it is."""
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if gradient is None:
                continue
            if self._momentum != 0:
                before = self._velocity.get(parameter)
                if before is not None:
                    gradient = before.mul_(self._momentum).add_(gradient)
                self._velocity[parameter] = gradient
            with torch.no_grad():
                parameter.add_(gradient, alpha=-self._learning_rate)


@contextmanager
def cohort_step(
    model: nn.Module,
    example_losses: ExampleLosses,
    sizes: Sequence[int],
    *,
    sample_rate: float,
    expected_batch_size: float,
    learning_rate: float,
    randomness: Sequence[Randomness],
    plan: PrivacyPlan,
    engine: Engine = ENGINES[DEFAULT_GRADIENTS],
    after_step: Callable[[nn.Module], None] | None = None,
) -> Iterator[Callable[[int], None]]:
    """One step of each of several clients, all from the weights that ``model`` has.

    Yields a function that moves ``model`` from these weights to those after the step of one client,
    as :func:`train_steps` does, with the same guarantee for each client by itself: each has a
    Poisson sample, clipped sum and noise of its own, from its own randomness. The clipped sums are
    made in one pass over all samples. Where that raises, and where the model draws in training,
    each client's is made when it is asked for, of the same sample, and raises for this one alone.

    Args:
        model: its buffers stay.
        example_losses: (model, rows (n,)) -> losses (n,), of the examples of all clients, numbered
            one client after the other.
        sizes: how many examples each client has.
        randomness: of each client.
        sample_rate, expected_batch_size, learning_rate, plan, engine, after_step: as of
            :func:`train_steps`, for every client.
    """
    first = [sum(sizes[:client]) for client in range(len(sizes))]
    start = {parameter: parameter.detach().clone() for parameter in trained_parameters(model)}

    @cache
    def sample_of(client: int) -> Tensor:
        draws = randomness[client]
        sampler = PoissonSampler(
            num_samples=sizes[client], sample_rate=sample_rate, steps=1, randomness=draws
        )
        return first[client] + _rows(next(iter(sampler)))

    with _in_training(model), engine(model, example_losses, plan.max_grad_norm) as gradients:
        together = _sums_together(model, gradients, sample_of, len(sizes))

        def move(client: int) -> None:
            if together:
                total = together[client]
            else:
                with torch.no_grad():
                    for parameter, value in start.items():
                        parameter.copy_(value)
                with seeded(randomness[client].seed(), device_of(model)):
                    total = gradients.clipped_sum(sample_of(client))
            noised = add_noise(total, plan.client_noise_multiplier, randomness[client])
            with torch.no_grad():  # as Sgd, in whose first step momentum is nothing
                for (parameter, value), one in zip(start.items(), noised, strict=True):
                    step = one / expected_batch_size
                    torch.add(value, step, alpha=-learning_rate, out=parameter)
            if after_step is not None:
                after_step(model)

        yield move


def _sums_together(
    model: nn.Module, gradients: GradientEngine, sample_of: Callable[[int], Tensor], clients: int
) -> Sequence[ClippedSum]:
    """The clipped sum of each client's sample; none at all where they cannot be made together."""
    if model in _DRAWING:  # each client's masks are its own
        return ()
    try:
        samples = [sample_of(client) for client in range(clients)]
        device = device_of(model)
        with seeded(secrets.randbits(63), device):  # of copies, which are drawn from it unmoved
            before = generator_state(device)
            sums = gradients.clipped_sums(torch.cat(samples), list(map(len, samples)))
            if torch.equal(generator_state(device), before):
                return sums
        _DRAWING.add(model)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever it is, it shall be that of one client alone
        log.warning("a cohort's step fails, and is taken client by client", exc_info=error)
    return ()


@contextmanager
def _in_training(model: nn.Module) -> Iterator[None]:
    """Training mode, without gradients and in the modes of before afterwards, whatever happens."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
        for module, mode in modes:
            module.training = mode


def plain_sum(
    model: nn.Module, example_losses: ExampleLosses, rows: Tensor
) -> tuple[Tensor | None, ...]:
    """The sum of gradients as they are, by autograd; None for parameters that took no part.

    A batch of nobody is zero without a forward pass.
    """
    parameters = trained_parameters(model)
    if len(rows) == 0:
        return tuple(torch.zeros_like(parameter) for parameter in parameters)
    for parameter in parameters:
        parameter.grad = None
    for part in physical_parts(rows):
        torch.autograd.backward(example_losses(model, part).sum())
    return tuple(parameter.grad for parameter in parameters)


def _rows(batch: list[int]) -> Tensor:
    return torch.tensor(batch, dtype=torch.long)
