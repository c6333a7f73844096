"""The client-level mechanism: clipping, the plan and its calibration, the adaptive clip."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.privacy.client_level import (
    ClientPlan,
    State,
    clip_update,
    draw_cohort,
    release_average,
)
from fedlite.privacy.randomness import DeterministicRandomness
from tests.privacy.releases import LIKE, Silent, joint_norm, make_client_plan, random_update


def build(**changes: Any) -> ClientPlan:
    """A hundred clients of which a tenth is asked in each of a hundred rounds."""
    options: dict[str, Any] = {
        "epsilon": 4.0,
        "delta": 1e-3,
        "noise_multiplier": None,
        "clip": 1.0,
        "participation_rate": 0.1,
        "num_clients": 100,
        "rounds": 100,
        "accountant": "prv",
        "randomness": "secure",
        "adaptive": False,
        "target_quantile": 0.5,
        "clip_learning_rate": 0.2,
        "bit_noise": None,
    }
    return ClientPlan.build(**{**options, **changes})


# --- clipping ------------------------------------------------------------------------------------


def test_a_short_update_stays_as_it_is() -> None:
    update = {"w": torch.tensor([[0.3, -0.1]]), "b": torch.tensor(0.2)}
    clipped, norm = clip_update(update, 1.0)
    assert norm == pytest.approx(math.sqrt(0.14), rel=1e-6)
    assert all(torch.equal(clipped[name].float(), value) for name, value in update.items())


def test_a_long_update_keeps_its_direction_and_gets_the_clip_as_norm() -> None:
    update = random_update(50.0)
    before = {name: value.clone() for name, value in update.items()}
    clipped, norm = clip_update(update, 0.5)
    assert norm == pytest.approx(50.0)
    assert joint_norm(clipped) == pytest.approx(0.5, rel=1e-12)
    assert all(torch.allclose(clipped[n] * 100, v, rtol=1e-12) for n, v in update.items())
    assert all(torch.equal(update[name], value) for name, value in before.items())


def test_zeros_stay_zeros() -> None:
    clipped, norm = clip_update(dict(LIKE), 0.5)
    assert norm == 0
    assert joint_norm(clipped) == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_an_update_that_is_not_finite_counts_as_zero_and_as_infinitely_long(bad: float) -> None:
    update = random_update(0.1)
    update["bias"][0] = bad
    clipped, norm = clip_update(update, 0.5)
    assert norm == math.inf
    assert joint_norm(clipped) == 0


@settings(max_examples=100)
@given(
    values=st.lists(st.floats(width=32), min_size=4, max_size=4),
    clip=st.floats(1e-6, 1e6),
    scalar=st.floats(width=32),
)
def test_no_update_is_longer_than_the_clip(values: list[float], clip: float, scalar: float) -> None:
    update = {"w": torch.tensor(values).reshape(2, 2), "scalar": torch.tensor(scalar)}
    assert joint_norm(clip_update(update, clip)[0]) <= clip * (1 + 1e-9)


# --- releases ------------------------------------------------------------------------------------


def test_a_release_is_the_clipped_sum_over_the_expected_cohort_in_the_model_s_type() -> None:
    plan = make_client_plan(clip=1.0, expected_cohort=4.0)
    like = {"w": torch.zeros(2), "half": torch.zeros((), dtype=torch.float16)}
    updates: list[State] = [
        {"w": torch.tensor([3.0, 4.0]), "half": torch.tensor(0.0, dtype=torch.float16)},
        {"w": torch.tensor([0.5, 0.0]), "half": torch.tensor(0.5, dtype=torch.float16)},
    ]
    release = release_average(updates, like, plan, 1.0, Silent())
    assert release.average["w"].tolist() == pytest.approx([(0.6 + 0.5) / 4, 0.8 / 4])
    assert float(release.average["half"]) == 0.125
    assert [value.dtype for value in release.average.values()] == [torch.float32, torch.float16]
    assert release.clip == 1.0


def test_the_clip_of_the_round_counts_and_not_that_of_the_first_round() -> None:
    plan = make_client_plan(clip=1.0)
    release = release_average([random_update(100)], LIKE, plan, 0.2, Silent())
    assert joint_norm(release.average) == pytest.approx(0.2 / plan.expected_cohort)


def test_seeded_releases_repeat() -> None:
    plan = make_client_plan(adaptive=True, bit_noise=2.0)
    first, second = (
        release_average([random_update(1)], LIKE, plan, 0.5, DeterministicRandomness(3))
        for _ in range(2)
    )
    assert first.clip == second.clip
    assert all(torch.equal(first.average[name], second.average[name]) for name in LIKE)


@pytest.mark.parametrize("target", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("start", [0.01, 30.0])
def test_an_adaptive_clip_finds_the_quantile_of_the_norms(target: float, start: float) -> None:
    plan = make_client_plan(
        adaptive=True, bit_noise=5.0, expected_cohort=100.0, target_quantile=target
    )
    cohort = [random_update(0.02 * i, i) for i in range(1, 101)]  # norms evenly up to 2
    randomness = DeterministicRandomness(0)
    clip, clips = start, []
    for _ in range(250):
        clip = release_average(cohort, LIKE, plan, clip, randomness).clip
        clips.append(clip)
    assert sum(clips[-100:]) / 100 == pytest.approx(2 * target, rel=0.1)


def test_noise_moves_the_clip_by_one_bounded_step_at_most() -> None:
    plan = make_client_plan(adaptive=True, bit_noise=1e6, expected_cohort=1.0)
    randomness = DeterministicRandomness(0)
    factors = {release_average([], LIKE, plan, 1.0, randomness).clip for _ in range(40)}
    assert min(factors) == pytest.approx(math.exp(-0.2))
    assert max(factors) == pytest.approx(math.exp(0.2))


def test_a_cohort_is_ascending_and_may_be_empty_or_everybody() -> None:
    randomness = DeterministicRandomness(0)
    cohorts = [draw_cohort(5, 0.3, randomness) for _ in range(50)]
    assert [] in cohorts
    assert all(cohort == sorted(set(cohort)) for cohort in cohorts)
    assert {i for cohort in cohorts for i in cohort} == set(range(5))
    assert draw_cohort(5, 1.0, randomness) == [0, 1, 2, 3, 4]


# --- the plan ------------------------------------------------------------------------------------


@pytest.mark.parametrize("accountant", ["prv", "pld", "rdp"])
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_all_rounds_together_stay_within_the_budget(accountant: str, rate: float) -> None:
    plan = build(accountant=accountant, participation_rate=rate)
    assert 0.98 * 4 <= plan.epsilon_after(100) <= 4
    assert plan.epsilon_after(101) > plan.epsilon_after(100) > plan.epsilon_after(1) > 0
    assert plan.segment == (plan.noise_multiplier, rate, 1)
    assert plan.update_noise_multiplier == plan.noise_multiplier
    assert plan.expected_cohort == 100 * rate


@pytest.mark.parametrize("accountant", ["prv", "pld"])
@pytest.mark.parametrize(
    ("noise_multiplier", "rate", "expected"),
    [(1, 0.1, 4.78), (2, 0.1, 1.54), (4, 0.1, 0.62), (1, 1, 80.0), (2, 1, 27.2), (4, 1, 10.2)],
)
def test_reference_points(
    noise_multiplier: float, rate: float, expected: float, accountant: str
) -> None:
    plan = build(
        epsilon=None,
        noise_multiplier=noise_multiplier,
        participation_rate=rate,
        accountant=accountant,
    )
    own_error = 0.015 if accountant == "prv" else 0.005  # PRV counts its grid's error of 0.01
    assert plan.epsilon == pytest.approx(expected, rel=0.002, abs=own_error)
    assert plan.epsilon_after(100, "rdp") > plan.epsilon


def test_defaults_are_derived_from_public_numbers() -> None:
    assert build(delta=None, num_clients=500).delta == pytest.approx(0.1 / 500)
    assert build(bit_noise=3.0).bit_noise == 0  # no bits without an adaptive clip
    large = build(adaptive=True, num_clients=10_000, delta=None)
    assert large.bit_noise == 50
    small = build(adaptive=True)
    assert small.bit_noise == small.noise_multiplier
    for plan in (large, small):
        assert plan.noise_multiplier < plan.update_noise_multiplier < 1.16 * plan.noise_multiplier


def test_an_adaptive_clip_costs_what_a_fixed_one_does() -> None:
    fixed, adaptive = build(), build(adaptive=True)
    assert fixed.segment == adaptive.segment
    assert fixed.epsilon_after(7) == adaptive.epsilon_after(7)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"delta": 0.01}, r"privacy\.client\.delta=0\.01: must be below 1 / clients \(1/100"),
        ({"delta": 0.5}, r"privacy\.client\.delta=0\.5"),
        ({"epsilon": None}, r"privacy\.client\.epsilon or privacy\.client\.noise_multiplier"),
        (
            {"noise_multiplier": 0.2, "epsilon": 1.0},
            r"privacy\.client\.noise_multiplier=0\.2: one round costs epsilon",
        ),
        (
            {"adaptive": True, "noise_multiplier": 3.0, "bit_noise": 1.4},
            r"privacy\.client\.bit_noise=1\.4: must be above half the noise multiplier \(1\.5\)",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line(
    options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "field",
    [
        {"clip": 0.0},
        {"clip": math.inf},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": math.nan},
        {"participation_rate": 0.0},
        {"participation_rate": 1.5},
        {"expected_cohort": 0.0},
        {"rounds": 0},
        {"delta": 1.0},
    ],
)
def test_a_plan_without_meaning_cannot_be_made(field: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="client-level plan"):
        replace(make_client_plan(), **field)
