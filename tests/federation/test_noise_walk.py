"""How far noise carries a student, held to noise that is drawn; the clip that follows from it."""

import dataclasses
import math

import pytest
import torch
from flwr.app import ConfigRecord
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlite.federation.messages import State
from fedlite.federation.noise_walk import (
    DROWNED,
    LONGEST_CLIP,
    TrainedWeights,
    drowned_line,
    noise_walk,
    with_bearable_clip,
)
from fedlite.federation.options import FederationOptions, StrategyOptions
from fedlite.federation.plans import build_client_plan, build_plan
from fedlite.federation.release import as_reply
from fedlite.federation.strategy import Strategy
from fedlite.privacy.client_level import ClientPlan, release_average
from fedlite.privacy.clipping import ClippedSum
from fedlite.privacy.noise import add_noise
from fedlite.privacy.options import AggregateTrustOptions, ClientLevelOptions, PrivacyOptions
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import make_randomness

CLIENTS, ROUNDS = 8, 60
WEIGHTS = TrainedWeights(2_000, 3.0)
STRATEGIES = [
    StrategyOptions("fedavg"),
    StrategyOptions("fedavgm", momentum=0.6),
    StrategyOptions("fedavgm", learning_rate=0.5, momentum=0.3),
]


def federation(strategy: StrategyOptions) -> FederationOptions:
    return FederationOptions(
        num_clients=CLIENTS, rounds=ROUNDS, learning_rate=0.3, strategy=strategy
    )


def client_plan(strategy: StrategyOptions, **client: float) -> ClientPlan:
    options = PrivacyOptions(unit="client", client=ClientLevelOptions(accountant="rdp", **client))
    return build_client_plan(options, federation(strategy), CLIENTS)


def example_plan(strategy: StrategyOptions, trust: str) -> PrivacyPlan:
    options = PrivacyOptions(
        trust=trust,  # type: ignore[arg-type]
        noise_multiplier=2.0,
        epsilon=None,
        accountant="rdp",
        aggregate=AggregateTrustOptions(min_cohort=CLIENTS if trust == "aggregate" else None),
    )
    return build_plan(options, federation(strategy), [40] * CLIENTS)


def walked(strategy: StrategyOptions, step: list[State]) -> float:
    """Where Flower's strategy ends that averages these moves, in lengths of the weights."""
    server, state = Strategy(strategy), {"w": torch.zeros(WEIGHTS.count)}
    for number, move in enumerate(step, start=1):
        server.configure(number, state, ConfigRecord(), [0])
        state = server.aggregate(number, state, [as_reply({"w": state["w"] + move["w"]})])
    return float(state["w"].norm()) / WEIGHTS.length


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: f"{one.name}-{one.momentum}")
def test_noise_of_releases_leads_as_far_as_is_said(strategy: StrategyOptions) -> None:
    plan, like = client_plan(strategy, clip=0.7), {"w": torch.zeros(WEIGHTS.count)}
    noises = [
        release_average(
            [], like, plan, plan.clip, make_randomness("deterministic", 0, "x", number)
        ).average
        for number in range(ROUNDS)
    ]
    said = noise_walk(plan, federation(strategy), CLIENTS, WEIGHTS)
    assert walked(strategy, noises) == pytest.approx(said, rel=0.1)


@pytest.mark.parametrize("trust", ["local", "aggregate"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: f"{one.name}-{one.momentum}")
def test_noise_of_clients_leads_as_far_as_is_said(strategy: StrategyOptions, trust: str) -> None:
    plan, rounds = example_plan(strategy, trust), []
    nothing = ClippedSum((torch.zeros(WEIGHTS.count),), plan.max_grad_norm)
    for number in range(ROUNDS):
        noises = [
            add_noise(
                nothing,
                plan.client_noise_multiplier,
                make_randomness("deterministic", 0, "x", number, client),
            )[0]
            for client in range(CLIENTS)
        ]
        step = federation(strategy).learning_rate / plan.expected_batch_size
        rounds.append({"w": step * torch.stack(noises).mean(dim=0)})
    said = noise_walk(plan, federation(strategy), CLIENTS, WEIGHTS)
    assert walked(strategy, rounds) == pytest.approx(said, rel=0.1)


@given(
    count=st.integers(1, 10**7),
    length=st.floats(1e-3, 1e3),
    adaptive=st.booleans(),
    strategy=st.sampled_from(STRATEGIES),
)
def test_a_clip_that_is_left_open_lets_noise_walk_one_length_at_most(
    count: int, length: float, adaptive: bool, strategy: StrategyOptions
) -> None:
    weights, options = TrainedWeights(count, length), federation(strategy)
    plan = client_plan(strategy, noise_multiplier=2.0, adaptive_clip=adaptive)
    found = with_bearable_clip(plan, options, CLIENTS, weights)
    walk = noise_walk(found, options, CLIENTS, weights)
    assert walk is not None
    assert found.clip <= LONGEST_CLIP
    if found.clip < LONGEST_CLIP:
        assert walk == pytest.approx(1, rel=0.06)  # two digits
    else:
        assert walk <= 1
    assert dataclasses.replace(found, clip=plan.clip) == plan


def test_a_clip_that_is_given_is_taken() -> None:
    options = PrivacyOptions(unit="client", client=ClientLevelOptions(accountant="rdp", clip=3.0))
    plan = build_client_plan(options, federation(STRATEGIES[0]), CLIENTS, WEIGHTS)
    assert plan.clip == 3.0


def test_a_clip_that_is_left_open_follows_from_weights_and_is_long_without_them() -> None:
    options = PrivacyOptions(unit="client", client=ClientLevelOptions(accountant="rdp"))
    few = build_client_plan(options, federation(STRATEGIES[0]), CLIENTS, WEIGHTS)
    assert few.clip < 0.1
    assert build_client_plan(options, federation(STRATEGIES[0]), CLIENTS).clip == LONGEST_CLIP


def test_weights_that_begin_at_zero_and_fedadam_say_nothing() -> None:
    zero, adam = TrainedWeights(100, 0.0), StrategyOptions("fedadam")
    plan = client_plan(STRATEGIES[0])
    assert noise_walk(plan, federation(STRATEGIES[0]), CLIENTS, zero) is None
    assert noise_walk(plan, federation(adam), CLIENTS, WEIGHTS) is None
    kept = with_bearable_clip(plan, federation(adam), CLIENTS, WEIGHTS)
    assert kept.clip == LONGEST_CLIP


def test_only_trained_weights_count() -> None:
    student = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    for frozen in student[0].parameters():
        frozen.requires_grad_(False)
    with torch.no_grad():
        student[1].weight.fill_(2.0)
        student[1].bias.zero_()
    assert TrainedWeights.of(student) == TrainedWeights(6, math.sqrt(4 * 4))


@pytest.mark.parametrize(
    ("walk", "said"), [(None, False), (DROWNED, False), (DROWNED + 0.1, True), (57.0, True)]
)
@pytest.mark.parametrize("example_level", [True, False])
def test_noise_that_drowns_is_said_with_what_helps(
    walk: float | None, said: bool, example_level: bool
) -> None:
    line = drowned_line(walk, example_level)
    assert bool(line) is said
    assert ("privacy.client.clip" in line) is (said and not example_level)
