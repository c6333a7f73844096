"""Checks of a mechanism on releases made by its very definition: false alarms, and what is seen."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlite.audit.canary_clients import noise_of_updates
from fedlite.audit.checks import (
    Check,
    Directions,
    Floats,
    Mechanism,
    Seen,
    check_counting,
    check_evenness,
    check_push,
    check_sampling,
    check_spending,
    observed,
)
from fedlite.audit.error_rate import (
    BOUNDS_OF_CANARIES,
    BOUNDS_OF_MEMBERSHIP,
    CHECKS_OF_CANARIES,
    ERROR_RATE,
    error_of_bound,
    error_of_check,
)
from fedlite.audit.noise_checks import (
    check_fresh_noise,
    check_neighbours,
    check_noise,
    check_shape,
)
from fedlite.runs.compose import compose_config
from tests.privacy.releases import make_client_plan

PLAN = Mechanism.of_steps(1.0, 0.3, steps=2, momentum=0.5, pull=0.1)


def oblique(examples: int, size: int) -> Directions:
    """Unit directions that overlap, a common part in all of them, in arrays of three sizes."""
    rng = np.random.default_rng(12345)
    rows = rng.normal(size=(examples, size)) + 2 * rng.normal(size=size)
    rows[:, size // 4 : size // 2] = 0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Directions(rows, (size // 3, size - size // 3 - 8, 8))


def on_axes(examples: int, size: int) -> Directions:
    return Directions(-np.eye(examples, size), (size - 8, 8))


def released(
    directions: Directions, real: Mechanism, seed: int, releases: int = 20
) -> tuple[Seen, Floats]:
    """What an observer of a mechanism sees, and the weights behind it."""
    rng = np.random.default_rng(seed)
    included = rng.random(directions.count) < 0.5
    steps = len(real.gains)
    taken = rng.random((releases, steps, directions.count)) < real.rate
    weights = np.einsum("s,rsm->rm", real.gains, taken * included)
    noise = np.einsum("s,rsd->rd", real.gains, rng.normal(size=(releases, steps, directions.size)))
    vectors = [directions.total(w) + real.noise * n for w, n in zip(weights, noise, strict=True)]
    everywhere = np.arange(directions.size)
    seen = [observed(directions, vector, everywhere) for vector in vectors]
    return Seen.of(directions, included, seen, everywhere), weights[:, included]


def checks_of(directions: Directions, real: Mechanism, seed: int) -> dict[str, Check]:
    seen, _ = released(directions, real, seed)
    _, quiet_weights = released(directions, replace(real, noise=0.0), seed)
    found = [
        check_noise([seen], PLAN),
        check_fresh_noise([seen]),
        check_neighbours([seen]),
        check_shape([seen], PLAN),
        check_push([seen], PLAN),
        check_evenness([seen], PLAN),
        check_sampling(quiet_weights, replace(PLAN, noise=0.0)),
    ]
    return {check.name: check for check in found}


@pytest.mark.parametrize("directions", [oblique(12, 60), on_axes(12, 60)], ids=["oblique", "axes"])
def test_the_mechanism_itself_fails_no_more_often_than_it_may(directions: Directions) -> None:
    """At 5% for each, so that 300 audits tell; and far out, where audits decide, not once."""
    p_values = [checks_of(directions, PLAN, seed) for seed in range(300)]
    for name in p_values[0]:
        ps = np.array([one[name].p_value for one in p_values])
        assert (ps < 0.05).mean() <= 0.09, name  # 0.05 and three standard errors
        assert (ps < 1e-4).sum() == 0, name


@pytest.mark.parametrize(
    ("changed", "by"),
    [
        ({"noise": 0.8}, "noise"),
        ({"noise": 1.2}, "noise"),
        ({"noise": 0.0}, "noise"),
        ({"rate": 1.0}, "push"),
        ({"gains": 3 * PLAN.gains}, "noise"),
    ],
)
@pytest.mark.parametrize("directions", [oblique(12, 60), on_axes(12, 60)], ids=["oblique", "axes"])
def test_another_mechanism_fails(directions: Directions, changed: dict[str, Any], by: str) -> None:
    assert checks_of(directions, replace(PLAN, **changed), seed=1)[by].p_value < 1e-4


def test_noise_that_comes_again_is_seen_in_a_part_of_a_release_too() -> None:
    seen, _ = released(oblique(12, 400), PLAN, seed=0)
    again = seen.samples.copy()
    again[7, :200] = again[3, :200]
    assert check_fresh_noise([seen]).p_value > 0.01
    assert check_fresh_noise([replace(seen, samples=again)]).p_value < 1e-4


def lacking(seen: Seen, where: slice) -> Seen:
    """Without the noise of one array, of which all coordinates were sampled."""
    samples = seen.samples.copy()
    samples[:, where] = 0
    parts = np.split(samples**2, np.cumsum(seen.directions.parts)[:-1], axis=1)
    energies = np.stack([part.sum(axis=1) for part in parts], axis=1)
    return replace(seen, samples=samples, energies=energies)


@pytest.mark.parametrize("make", [oblique, on_axes])
def test_noise_that_one_small_array_lacks_is_seen(make: Callable[[int, int], Directions]) -> None:
    seen, _ = released(make(12, 4000), PLAN, seed=0)
    assert check_noise([seen], PLAN).p_value > 0.01
    found = check_noise([lacking(seen, slice(-8, None))], PLAN)
    assert found.p_value < 1e-4
    assert found.measured == 0


def test_noise_that_neighbours_share_is_seen() -> None:
    seen, _ = released(on_axes(12, 200), PLAN, seed=0)
    shared = seen.samples.copy()
    shared[:, 1::2] = shared[:, ::2]
    assert check_noise([seen], PLAN).p_value > 0.01
    assert check_neighbours([replace(seen, samples=shared)]).p_value < 1e-4


def test_noise_of_the_right_size_that_is_not_gaussian_is_seen() -> None:
    seen, _ = released(on_axes(12, 200), PLAN, seed=0)
    half = PLAN.noise * np.sqrt(3 * PLAN.power)
    flat = np.random.default_rng(0).uniform(-half, half, seen.samples.shape)
    assert check_shape([replace(seen, samples=flat)], PLAN).p_value < 1e-4


@pytest.mark.parametrize("size", [12, 13, 14, 40])
def test_a_release_that_examples_explain_all_but_all_of_is_not_tested(size: int) -> None:
    """Nor does it fail: there is no noise to be seen beside them."""
    seen, _ = released(Directions(np.eye(12, size), (size - 4, 4)), PLAN, seed=0)
    found = [check_noise([seen], PLAN), check_fresh_noise([seen])]
    assert [(check.tested, check.p_value) for check in found] == [(False, 1.0)] * 2
    assert all(check.record(0.01)["passed"] for check in found)
    few = [check_neighbours([seen]), check_shape([seen], PLAN)]
    assert all(check.p_value > 0.01 for check in few)
    assert [check.tested for check in few] == [size > 14, size > 13]


def test_one_example_that_counts_twice_is_seen() -> None:
    """In a sum over a thousand it is not: 1 in 1000 pushes more."""
    directions = on_axes(1000, 2000)
    seen, weights = released(directions, PLAN, seed=0, releases=400)
    first = int(np.flatnonzero(seen.included)[0])
    along = seen.along.copy()
    along[:, first] -= weights[:, 0]
    assert check_push([seen], PLAN).p_value > 0.01
    assert check_push([replace(seen, along=along)], PLAN).p_value < 1e-4


@pytest.mark.parametrize("count", [60, 200])
def test_batches_of_a_fixed_size_and_pairs_are_not_poisson(count: int) -> None:
    rng = np.random.default_rng(0)
    plan = Mechanism(0.0, 0.2, np.ones(1))
    ranks = rng.random((80, count)).argsort(axis=1)
    fixed = (ranks < round(0.2 * count)).astype(float)
    pairs = np.repeat(rng.random((80, count // 2)) < 0.2, 2, axis=1).astype(float)
    always = np.tile(rng.random(count) < 0.2, (80, 1)).astype(float)
    poisson = (rng.random((80, count)) < 0.2).astype(float)
    assert check_sampling(poisson, plan).p_value > 0.01
    for wrong in (fixed, pairs, always):
        assert check_sampling(wrong, plan).p_value < 1e-3


def test_sampling_everybody_is_exact() -> None:
    plan = Mechanism(0.0, 1.0, np.ones(1))
    everybody = np.ones((5, 7))
    assert check_sampling(everybody, plan).p_value == 1
    everybody[2, 3] = 0
    assert check_sampling(everybody, plan).p_value == 0


@given(
    steps=st.integers(1, 6),
    momentum=st.floats(0, 0.95),
    pull=st.floats(0, 0.5),
    seed=st.integers(0, 9),
)
def test_gains_are_what_sgd_with_momentum_and_a_pull_does(
    steps: int, momentum: float, pull: float, seed: int
) -> None:
    gradients = np.random.default_rng(seed).normal(size=steps)
    moved = speed = 0.0
    for gradient in gradients:
        speed = momentum * speed + gradient
        moved = (moved + speed) * (1 - pull)
    gains = Mechanism.of_steps(1.0, 0.5, steps=steps, momentum=momentum, pull=pull).gains
    assert float(gains @ gradients) == pytest.approx(moved, abs=1e-9)


def test_a_client_that_counts_twice_is_seen_in_quiet_releases() -> None:
    plan = Mechanism(0.05, 0.5, np.ones(1))
    seen, asked = released(Directions(np.eye(12, 60)), plan, seed=0)
    assert check_counting(seen, asked, plan.noise).p_value > 0.01
    asked[3, 2] += 1
    found = check_counting(seen, asked, plan.noise)
    assert found.p_value < 1e-4
    assert found.measured == pytest.approx(1, abs=0.3)


def test_less_than_the_charges_cost_is_no_spending() -> None:
    assert check_spending(2.0, 1.99).p_value == 1
    assert check_spending(0.5, 1.99).p_value == 0


@pytest.mark.parametrize("adaptive", [False, True])
def test_noise_on_updates_is_that_of_the_plan(adaptive: bool) -> None:
    plan = make_client_plan(adaptive=adaptive, bit_noise=5.0) if adaptive else make_client_plan()
    assert noise_of_updates(plan) == pytest.approx(plan.update_noise_multiplier)


@pytest.mark.parametrize(
    ("privacy", "units"), [("example", 1), ("client", 1), ("both", 2), ("none", 1)]
)
def test_all_tests_of_an_audit_share_one_error_rate(privacy: str, units: int) -> None:
    config = compose_config(["dataset=digits", f"privacy={privacy}"])
    bounds = units * BOUNDS_OF_CANARIES + BOUNDS_OF_MEMBERSHIP
    total = bounds * error_of_bound(config) + units * CHECKS_OF_CANARIES * error_of_check(config)
    assert total == pytest.approx(ERROR_RATE)
