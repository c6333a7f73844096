"""Rule 15: sampling matches the accountant; an adaptive clip and its update are one mechanism."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedlite.base.errors import UsageError
from fedlite.federation import rounds
from fedlite.federation.cohort import select_cohort
from fedlite.federation.plans import build_client_plan
from fedlite.privacy.accounting import Segment, compute_epsilon
from fedlite.privacy.client_level import (
    ClientPlan,
    Release,
    State,
    clip_update,
    draw_cohort,
    release_average,
)
from fedlite.privacy.randomness import DeterministicRandomness, Randomness, SecureRandomness
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.stages.federate import make_federation
from tests.federation.scripted import ScriptedClients, add, federation, run_scripted
from tests.privacy.planted import caught
from tests.privacy.releases import LIKE, Silent, distance, make_client_plan, random_update
from tests.privacy.world import Untrained

NUM_CLIENTS, RATE, ROUNDS = 100, 0.1, 6000

# Bits with so little noise that the update must make up for much of it.
ADAPTIVE = make_client_plan(adaptive=True, noise_multiplier=1.0, bit_noise=0.6)

Draw = Callable[[int], list[int]]
Mechanism = Callable[[Sequence[State], State, ClientPlan, float, Randomness], Release]


# --- who is asked --------------------------------------------------------------------------------


def check_selection(draw: Draw) -> None:
    """Cohort sizes have the mean and the variance of independent coins."""
    cohorts = [draw(server_round) for server_round in range(1, ROUNDS + 1)]
    sizes = np.array([len(cohort) for cohort in cohorts])
    variance = NUM_CLIENTS * RATE * (1 - RATE)
    assert abs(sizes.mean() - NUM_CLIENTS * RATE) < 5 * math.sqrt(variance / ROUNDS)
    assert 0.9 < sizes.var() / variance < 1.1, f"variance {sizes.var():.3g}, not {variance:.3g}"
    counts = np.bincount(np.concatenate(cohorts).astype(int), minlength=NUM_CLIENTS)
    each = ROUNDS * RATE
    assert len(counts) == NUM_CLIENTS
    assert np.abs(counts - each).max() < 5 * math.sqrt(each * (1 - RATE))


SEEDED = DeterministicRandomness(0)


@pytest.mark.parametrize("randomness", [SEEDED, SecureRandomness()], ids=["seeded", "secure"])
def test_every_client_is_drawn_on_its_own(randomness: Randomness) -> None:
    check_selection(lambda server_round: draw_cohort(NUM_CLIENTS, RATE, randomness))


@pytest.mark.parametrize("secret", [False, True])
def test_the_server_selects_so(secret: bool) -> None:
    config = compose_config(
        ["privacy=client", "federation.sampling=bernoulli", f"federation.fraction={RATE}"]
    )
    plan = build_client_plan(config.privacy, config.federation, NUM_CLIENTS)
    assert plan.participation_rate == RATE
    assert plan.expected_cohort == NUM_CLIENTS * RATE
    check_selection(
        lambda server_round: select_cohort(
            config.federation, NUM_CLIENTS, config.seed, server_round, secret=secret
        )
    )


def test_a_secret_cohort_does_not_follow_from_the_seed() -> None:
    config = compose_config(["federation.sampling=bernoulli", "federation.fraction=0.5"])
    drawn = [select_cohort(config.federation, 200, 0, 1, secret=True) for _ in range(2)]
    assert drawn[0] != drawn[1]


def check_cohorts_are_secret(directory: Path, plan: ClientPlan) -> None:
    """Through the rounds: nobody who knows the seed knows who was asked."""
    clients = ScriptedClients([add(1.0)] * 16)
    sampled = ("federation.sampling=bernoulli", "federation.fraction=0.5", "federation.rounds=4")
    made = run_scripted(clients, federation(directory, 16, *sampled, client_plan=plan))
    assert len(made.history) == 4
    asked = [[i for number, i in clients.asked if number == r] for r in range(1, 5)]
    known = [select_cohort(made.options, 16, made.seed, r) for r in range(1, 5)]
    assert not any(map(operator.eq, map(sorted, asked), known)), "a cohort follows from the seed"


HALF = make_client_plan(
    participation_rate=0.5, expected_cohort=8.0, epsilon=1e3, randomness="secure"
)


def test_the_rounds_of_a_client_level_run_ask_secret_cohorts(tmp_path: Path) -> None:
    check_cohorts_are_secret(tmp_path, HALF)


def test_the_planted_bug_cohorts_of_the_seed_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seeded(*args: Any, secret: bool) -> list[int]:
        return select_cohort(*args)

    monkeypatch.setattr(rounds, "select_cohort", seeded)
    with caught("a cohort follows from the seed"):
        check_cohorts_are_secret(tmp_path, HALF)


@pytest.mark.parametrize(
    ("options", "secret"),
    [
        (["privacy=client"], True),
        (["privacy=both"], True),
        (["privacy=client", "privacy.randomness=deterministic"], False),
        (["privacy=example"], False),
        (["privacy=none"], False),
    ],
)
def test_every_run_whose_claim_counts_on_it_has_secret_cohorts(
    options: list[str], secret: bool, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    made = make_federation(Untrained(tiny_config(*options), tmp_path), tmp_path / "checkpoint.pt")
    assert made.secret_cohort is secret


def fixed_size(server_round: int) -> list[int]:
    rng = np.random.default_rng(server_round)
    return [int(i) for i in rng.choice(NUM_CLIENTS, size=int(NUM_CLIENTS * RATE), replace=False)]


def in_pairs(server_round: int) -> list[int]:
    rng = np.random.default_rng(server_round)
    coins = np.repeat(rng.random(NUM_CLIENTS // 2) < RATE, 2)
    return [int(i) for i in np.flatnonzero(coins)]


def favourites(server_round: int) -> list[int]:
    """Those of a high loss, say, more often than the others."""
    rng = np.random.default_rng(server_round)
    rates = np.where(np.arange(NUM_CLIENTS) < 50, 1.5 * RATE, 0.5 * RATE)
    return [int(i) for i in np.flatnonzero(rng.random(NUM_CLIENTS) < rates)]


@pytest.mark.parametrize("planted", [fixed_size, in_pairs, favourites])
def test_other_ways_to_select_are_caught(planted: Draw) -> None:
    with pytest.raises(AssertionError):
        check_selection(planted)


def test_fixed_size_cohorts_are_refused_and_all_clients_are_not_a_sample() -> None:
    sampled = ["federation.fraction=0.5", "federation.sampling=fixed"]
    for unit in ("client", "both"):
        with pytest.raises(UsageError, match=r"federation\.sampling=bernoulli"):
            compose_config([f"privacy={unit}", *sampled])
        config = compose_config([f"privacy={unit}", "federation.fraction=1"])
        assert build_client_plan(config.privacy, config.federation, 50).participation_rate == 1
    compose_config(["privacy=example", *sampled])


# --- one mechanism -------------------------------------------------------------------------------


class Ones(Silent):
    """Noise of exactly one standard deviation everywhere, to read its size off a release."""

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.ones(shape)


def bits_of(release: Release, plan: ClientPlan, clip: float) -> float:
    """The noised sum of bits, read off the change of the clip that it caused."""
    unclipped = plan.target_quantile - math.log(release.clip / clip) / plan.clip_learning_rate
    return unclipped * plan.expected_cohort


def joint_shift(mechanism: Mechanism, plan: ClientPlan) -> float:
    """How far one client moves both sums at most, in standard deviations of their noise.

    1 / this is the noise multiplier of the one Gaussian mechanism that the round is.
    """
    clip = plan.clip
    others = [random_update(0.3 * clip, 1), random_update(5 * clip, 2), random_update(clip / 9, 3)]
    silent = mechanism(others, LIKE, plan, clip, Silent())
    loud = mechanism(others, LIKE, plan, clip, Ones())
    update_std = float((loud.average["bias"] - silent.average["bias"])[0])
    bits_std = bits_of(loud, plan, clip) - bits_of(silent, plan, clip)
    shifts = []
    for norm in (0.0, 0.5 * clip, (1 - 1e-12) * clip, 1.01 * clip, 100 * clip):
        for cohort in ([], others):
            without = mechanism(cohort, LIKE, plan, clip, Silent())
            joined = mechanism([*cohort, random_update(norm, 4)], LIKE, plan, clip, Silent())
            moved = distance(joined.average, without.average) / update_std
            counted = bits_of(joined, plan, clip) - bits_of(without, plan, clip)
            shifts.append(math.hypot(moved, counted / bits_std))
    return max(shifts)


def check_one_mechanism(mechanism: Mechanism, plan: ClientPlan) -> None:
    """Update and bits together are the Gaussian mechanism that is charged: no more, no less."""
    multiplier = 1 / joint_shift(mechanism, plan)
    assert multiplier == pytest.approx(plan.noise_multiplier, rel=1e-6)


def z_itself_for_the_update(
    updates: Sequence[State], like: State, plan: ClientPlan, clip: float, randomness: Randomness
) -> Release:
    """Planted: the charged multiplier on the updates, and the bits for nothing."""
    fixed = release_average(updates, like, replace(plan, adaptive=False), clip, randomness)
    return replace(release_average(updates, like, plan, clip, randomness), average=fixed.average)


def bits_not_shifted(
    updates: Sequence[State], like: State, plan: ClientPlan, clip: float, randomness: Randomness
) -> Release:
    """Planted: a bit of 0 or 1 moves the count by 1."""
    unclipped = sum(clip_update(update, clip)[1] <= clip for update in updates)
    noise = plan.bit_noise * float(randomness.normal((1,)))
    return with_bits(updates, like, plan, clip, randomness, unclipped + noise)


def bits_over_the_actual_count(
    updates: Sequence[State], like: State, plan: ClientPlan, clip: float, randomness: Randomness
) -> Release:
    """Planted: the share of those who answered, with noise for a share of the expected cohort."""
    bits = sum((clip_update(update, clip)[1] <= clip) - 0.5 for update in updates)
    noise = plan.bit_noise * float(randomness.normal((1,)))
    scaled = bits * plan.expected_cohort / max(1, len(updates)) + noise
    return with_bits(updates, like, plan, clip, randomness, scaled)


def bits_of_another_plan(
    updates: Sequence[State], like: State, plan: ClientPlan, clip: float, randomness: Randomness
) -> Release:
    """Planted: less noise on the bits than the update's noise was worked out for."""
    less = release_average(updates, like, replace(plan, bit_noise=0.51), clip, randomness)
    return replace(release_average(updates, like, plan, clip, randomness), clip=less.clip)


def with_bits(
    updates: Sequence[State],
    like: State,
    plan: ClientPlan,
    clip: float,
    randomness: Randomness,
    bits: float,
) -> Release:
    excess = bits / plan.expected_cohort - plan.target_quantile
    average = release_average(updates, like, plan, clip, randomness).average
    return Release(average, clip * math.exp(-plan.clip_learning_rate * excess))


PLANS = [
    ADAPTIVE,
    replace(ADAPTIVE, bit_noise=5.0),
    replace(ADAPTIVE, noise_multiplier=0.3, bit_noise=1.0, clip=20.0, target_quantile=0.8),
]


@pytest.mark.parametrize("plan", PLANS)
def test_update_and_bits_are_the_one_mechanism_that_is_charged(plan: ClientPlan) -> None:
    check_one_mechanism(release_average, plan)


@pytest.mark.parametrize(
    "planted",
    [
        z_itself_for_the_update,
        bits_not_shifted,
        bits_over_the_actual_count,
        bits_of_another_plan,
    ],
)
def test_planted_bugs_of_the_adaptive_clip_are_caught(planted: Mechanism) -> None:
    with pytest.raises(AssertionError):
        check_one_mechanism(planted, ADAPTIVE)


def check_charge(segments: Callable[[ClientPlan], list[Segment]]) -> None:
    """What is charged for ten rounds covers what ten rounds of the measured mechanism cost."""
    for plan in PLANS:
        multiplier = 1 / joint_shift(release_average, plan)
        truth = compute_epsilon([(multiplier, plan.participation_rate, 10)], plan.delta, "rdp")
        charged = compute_epsilon(segments(plan) * 10, plan.delta, "rdp")
        assert charged >= truth * (1 - 1e-4), f"{charged:.4g} charged, {truth:.4g} spent"


def test_the_charge_covers_both_sums() -> None:
    check_charge(lambda plan: [plan.segment])


def two_ledger_entries(plan: ClientPlan) -> list[Segment]:
    """Planted: as if each sum had a cohort of its own."""
    q = plan.participation_rate
    return [(plan.update_noise_multiplier, q, 1), (2 * plan.bit_noise, q, 1)]


def the_update_alone(plan: ClientPlan) -> list[Segment]:
    """Planted: the bits are forgotten."""
    return [(plan.update_noise_multiplier, plan.participation_rate, 1)]


@pytest.mark.parametrize("planted", [two_ledger_entries, the_update_alone])
def test_charges_that_under_report_are_caught(
    planted: Callable[[ClientPlan], list[Segment]],
) -> None:
    with pytest.raises(AssertionError):
        check_charge(planted)


def test_the_noise_of_both_sums_has_the_planned_size_and_nothing_in_common() -> None:
    plan, rounds = replace(ADAPTIVE, clip_learning_rate=0.5), 4000
    randomness = DeterministicRandomness(0)
    releases = [release_average([], LIKE, plan, 0.7, randomness) for _ in range(rounds)]
    updates = np.array([release.average["weight"].flatten().tolist() for release in releases])
    bits = np.array([bits_of(release, plan, 0.7) for release in releases])
    planned = (1.0**-2 - 1.2**-2) ** -0.5 * 0.7 / plan.expected_cohort
    assert updates.std() == pytest.approx(planned, rel=0.03)
    assert bits.std() == pytest.approx(0.6, rel=0.05)
    correlation = np.corrcoef(np.column_stack([updates, bits]).T) - np.eye(7)
    assert np.abs(correlation).max() < 5 / math.sqrt(rounds)


@pytest.mark.parametrize("bit_noise", [0.1, 0.5])
def test_bits_with_too_little_noise_are_refused(bit_noise: float) -> None:
    with pytest.raises(UsageError, match=r"privacy\.client\.bit_noise"):
        make_client_plan(adaptive=True, noise_multiplier=1.0, bit_noise=bit_noise)


def test_the_quantile_is_estimated_without_bias_over_cohorts_of_any_size() -> None:
    clip, plan = 1.0, replace(ADAPTIVE, clip_learning_rate=0.2, bit_noise=0.55)
    clients = [random_update(0.5 if i % 10 < 3 else 2.0, i) for i in range(40)]  # 3 in 10 unclipped
    randomness = DeterministicRandomness(1)
    shares = []
    for _ in range(1500):
        cohort = [clients[i] for i in draw_cohort(40, plan.participation_rate, randomness)]
        release = release_average(cohort, LIKE, plan, clip, randomness)
        shares.append(bits_of(release, plan, clip) / plan.expected_cohort)
    assert np.mean(shares) == pytest.approx(0.3, abs=4 * np.std(shares) / math.sqrt(1500))
    assert np.std(shares) < 0.2
