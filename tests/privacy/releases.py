"""Client-level releases without a server: plans, updates and draws for the rules 14 to 17."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from fedlite.privacy.client_level import ClientPlan, State

LIKE: State = {
    "weight": torch.zeros(2, 3, dtype=torch.float64),
    "bias": torch.zeros(3, dtype=torch.float64),
}


class Silent:
    """A source of randomness without noise, to see the sums that it would hide."""

    def uniform(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.float64)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(shape)

    def seed(self) -> int:
        return 0


def make_client_plan(**changes: object) -> ClientPlan:
    """A plan of 40 clients of which 10 are expected in a round."""
    plan = ClientPlan(
        epsilon=8.0,
        delta=1e-3,
        noise_multiplier=1.0,
        clip=0.5,
        participation_rate=0.25,
        expected_cohort=10.0,
        rounds=10,
        accountant="rdp",
        randomness="deterministic",
    )
    return replace(plan, **changes)  # type: ignore[arg-type]


def random_update(norm: float, seed: int = 0) -> State:
    """An update shaped like ``LIKE`` of the given L2 norm."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in LIKE.items()
    }
    length = joint_norm(drawn)
    return {name: value * (norm / length) for name, value in drawn.items()}


def joint_norm(state: State) -> float:
    """The L2 norm over all arrays together."""
    return math.sqrt(sum(float(value.double().square().sum()) for value in state.values()))


def distance(one: State, other: State) -> float:
    """The L2 norm of the difference, over all arrays together."""
    return joint_norm({name: one[name] - other[name] for name in one})
