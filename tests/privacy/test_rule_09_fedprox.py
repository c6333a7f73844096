"""Rule 9: regularisers on weights alone are an update of their own, after the noise."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedlite.federation import training
from fedlite.federation.messages import to_state
from fedlite.privacy.clipping import ExampleLosses
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld

MU = 0.3
ONE_STEP = ("privacy.randomness=deterministic", "federation.local_steps=1")


def trained(world: ClientWorld, proximal_mu: float) -> dict[str, Tensor]:
    for context in world.grid.contexts.values():
        context.state.clear()
    message = world.request(1)
    message.content.config_records["config"]["proximal-mu"] = proximal_mu
    (reply,) = world.grid.send_and_receive([message])
    return to_state(reply.content.array_records["arrays"])


def check_the_term_moves_the_weights(world: ClientWorld) -> None:
    """One step: w1 = w0 - lr g, then w1 - lr mu (w1 - w0), with the noise in g."""
    start = {name: value.clone() for name, value in world.student.state_dict().items()}
    plain, proximal = trained(world, 0.0), trained(world, MU)
    learning_rate = world.config.federation.learning_rate
    for name, before in start.items():
        assert not torch.equal(plain[name], before)
        expected = plain[name] - learning_rate * MU * (plain[name] - before)
        assert torch.allclose(proximal[name], expected, atol=1e-6), "the term is not as computed"


@pytest.mark.usefixtures("every_engine")
def test_the_term_moves_the_weights_exactly_as_computed(
    client_world: Callable[..., ClientWorld],
) -> None:
    check_the_term_moves_the_weights(client_world(*ONE_STEP))


# --- planted bugs ---------------------------------------------------------------------------


def in_the_loss(patch: pytest.MonkeyPatch) -> None:
    """Opacus overwrites the gradients, and the term vanishes without a word."""
    real = training.train_steps

    def train(model: nn.Module, example_losses: ExampleLosses, *args: Any, **options: Any) -> int:
        start = [parameter.detach().clone() for parameter in model.parameters()]

        def with_term(model: nn.Module, rows: Tensor) -> Tensor:
            gaps = zip(model.parameters(), start, strict=True)
            term = sum((weights - before).square().sum() for weights, before in gaps)
            losses = example_losses(model, rows)
            return losses + MU / 2 * term / len(losses)

        return real(model, with_term, *args, **{**options, "after_step": None})

    patch.setattr(training, "train_steps", train)


def applied_twice(patch: pytest.MonkeyPatch) -> None:
    real = training.train_steps

    def train(*args: Any, after_step: Callable[[nn.Module], None] | None, **options: Any) -> int:
        def twice(student: nn.Module) -> None:
            for _ in range(2):
                if after_step is not None:
                    after_step(student)

        return real(*args, **options, after_step=twice)

    patch.setattr(training, "train_steps", train)


def pulled_to_where_it_is(patch: pytest.MonkeyPatch) -> None:
    """The start is looked up after the step, when it is the weights themselves."""
    real = training.proximal_pull

    def late(student: nn.Module, strength: float) -> Callable[[nn.Module], None]:
        def pull(model: nn.Module) -> None:
            found = real(student, strength)
            if found is not None:
                found(model)

        return pull

    patch.setattr(training, "proximal_pull", late)


@pytest.mark.parametrize("plant", [in_the_loss, applied_twice, pulled_to_where_it_is])
def test_planted_bugs_are_caught(
    plant: Plant, client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = client_world(*ONE_STEP)
    plant(monkeypatch)
    with caught("the term is not as computed"):
        check_the_term_moves_the_weights(world)


# --- further promises -----------------------------------------------------------------------


def test_more_of_it_stays_nearer(client_world: Callable[..., ClientWorld]) -> None:
    world = client_world("privacy.randomness=deterministic", "federation.local_steps=5")
    start = {name: value.clone() for name, value in world.student.state_dict().items()}

    def distance(proximal_mu: float) -> float:
        state = trained(world, proximal_mu)
        return sum(float((state[n] - start[n]).square().sum()) for n in start)

    assert distance(0.5) < distance(0.1) < distance(0.0)
