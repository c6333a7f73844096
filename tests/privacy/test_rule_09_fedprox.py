"""Rule 9: regularisers on weights alone are an update of their own, after the noise."""

from collections.abc import Callable

import torch

from fedlite.federation.messages import to_state
from tests.privacy.world import ClientWorld


def trained(world: ClientWorld, proximal_mu: float) -> dict[str, torch.Tensor]:
    for context in world.grid.contexts.values():
        context.state.clear()
    message = world.request(1)
    message.content.config_records["config"]["proximal-mu"] = proximal_mu
    (reply,) = world.grid.send_and_receive([message])
    return to_state(reply.content.array_records["arrays"])


def test_the_term_moves_the_weights_exactly_as_computed(
    client_world: Callable[..., ClientWorld],
) -> None:
    """One step: w1 = w0 - lr g, then w1 - lr mu (w1 - w0)."""
    world = client_world("privacy.randomness=deterministic", "federation.local_steps=1")
    start = {name: value.clone() for name, value in world.student.state_dict().items()}
    plain, proximal = trained(world, 0.0), trained(world, 0.3)
    learning_rate = world.config.federation.learning_rate
    for name, before in start.items():
        expected = plain[name] - learning_rate * 0.3 * (plain[name] - before)
        assert torch.allclose(proximal[name], expected, atol=1e-6)
        assert not torch.equal(plain[name], before)


def test_more_of_it_stays_nearer(client_world: Callable[..., ClientWorld]) -> None:
    world = client_world("privacy.randomness=deterministic", "federation.local_steps=5")
    start = {name: value.clone() for name, value in world.student.state_dict().items()}

    def distance(proximal_mu: float) -> float:
        state = trained(world, proximal_mu)
        return sum(float((state[n] - start[n]).square().sum()) for n in start)

    assert distance(0.5) < distance(0.1) < distance(0.0)
