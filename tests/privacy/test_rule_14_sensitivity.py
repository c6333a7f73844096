"""Rule 14: clip each client, sum, divide by the constant expected cohort, noise every sum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from flwr.app import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlite.federation.messages import refused_reply, to_arrays, trained_reply
from fedlite.privacy.client_level import ClientPlan, State, clip_update, release_average
from fedlite.privacy.randomness import DeterministicRandomness, Randomness, SecureRandomness
from tests.federation.scripted import (
    STUDENT,
    Answer,
    ScriptedClients,
    add,
    federation,
    run_scripted,
)
from tests.privacy.releases import LIKE, Silent, distance, make_client_plan, random_update


@dataclass(frozen=True)
class Reply:
    """What a client answered, and the count of examples that nobody should look at."""

    update: State
    examples: int = 1


Aggregate = Callable[[Sequence[Reply], State, ClientPlan, Randomness], State]


def released(
    replies: Sequence[Reply], like: State, plan: ClientPlan, randomness: Randomness
) -> State:
    """The real code."""
    updates = [reply.update for reply in replies]
    return release_average(updates, like, plan, plan.clip, randomness).average


def noised(average: State, plan: ClientPlan, randomness: Randomness) -> State:
    std = plan.noise_multiplier * plan.clip / plan.expected_cohort
    return {n: v + std * randomness.normal(tuple(v.shape)) for n, v in average.items()}


def total(states: Sequence[State], like: State) -> State:
    return {n: sum((s[n] for s in states), torch.zeros_like(v)) for n, v in like.items()}


def weighted_by_examples(
    replies: Sequence[Reply], like: State, plan: ClientPlan, randomness: Randomness
) -> State:
    """Planted: Flower's own wrapper, where a client's part depends on how much data it has."""
    everything = sum(reply.examples for reply in replies) or 1
    parts = [
        {n: v * (r.examples / everything) for n, v in clip_update(r.update, plan.clip)[0].items()}
        for r in replies
    ]
    return noised(total(parts, like), plan, randomness)


def divided_by_the_actual_count(
    replies: Sequence[Reply], like: State, plan: ClientPlan, randomness: Randomness
) -> State:
    """Planted: the average over those who answered."""
    summed = total([clip_update(r.update, plan.clip)[0] for r in replies], like)
    return noised({n: v / max(1, len(replies)) for n, v in summed.items()}, plan, randomness)


def without_clipping(
    replies: Sequence[Reply], like: State, plan: ClientPlan, randomness: Randomness
) -> State:
    """Planted: a client moves the sum as far as it likes."""
    summed = total([r.update for r in replies], like)
    return noised({n: v / plan.expected_cohort for n, v in summed.items()}, plan, randomness)


def clipped_array_by_array(
    replies: Sequence[Reply], like: State, plan: ClientPlan, randomness: Randomness
) -> State:
    """Planted: every array gets the whole norm for itself."""
    parts = [
        {n: clip_update({n: v}, plan.clip)[0][n] for n, v in r.update.items()} for r in replies
    ]
    summed = total(parts, like)
    return noised({n: v / plan.expected_cohort for n, v in summed.items()}, plan, randomness)


def nan_passes_the_clip(
    replies: Sequence[Reply], like: State, plan: ClientPlan, randomness: Randomness
) -> State:
    """Planted: ``min(1, clip / norm)`` as Flower has it, which a norm of NaN leaves alone."""
    parts = []
    for reply in replies:
        norm = torch.cat([v.flatten() for v in reply.update.values()]).norm().item()
        factor = min(1.0, plan.clip / norm) if norm else 1.0
        parts.append({n: v * factor for n, v in reply.update.items()})
    summed = total(parts, like)
    return noised({n: v / plan.expected_cohort for n, v in summed.items()}, plan, randomness)


def empty_round_skipped(
    replies: Sequence[Reply], like: State, plan: ClientPlan, randomness: Randomness
) -> State:
    """Planted: nobody answered, so nothing is released, which tells that nobody was there."""
    if not replies:
        return {name: torch.zeros_like(value) for name, value in like.items()}
    return released(replies, like, plan, randomness)


def noise_shared_by_the_actual_count(
    replies: Sequence[Reply], like: State, plan: ClientPlan, randomness: Randomness
) -> State:
    """Planted: the more clients answer, the less noise."""
    fewer = randomness_scaled(randomness, 1 / max(1, len(replies)) ** 0.5)
    return released(replies, like, plan, fewer)


def noise_for_a_clip_of_one(
    replies: Sequence[Reply], like: State, plan: ClientPlan, randomness: Randomness
) -> State:
    """Planted: noise that does not know the clip."""
    return released(replies, like, plan, randomness_scaled(randomness, 1 / plan.clip))


def randomness_scaled(randomness: Randomness, factor: float) -> Randomness:
    class Scaled(Silent):
        def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
            return factor * randomness.normal(shape)

    return Scaled()


def far(seed: int = 0) -> State:
    return random_update(1e6, seed)


def filled(value: float) -> State:
    return {name: torch.full_like(array, value) for name, array in LIKE.items()}


def with_one(value: float) -> State:
    update = random_update(0.1, 3)
    update["bias"][1] = value
    return update


COHORTS: dict[str, list[Reply]] = {
    "unequal counts of examples": [
        Reply(far(1), 1),
        Reply(random_update(0.4, 2), 17),
        Reply(far(3), 5000),
    ],
    "all but one missing": [Reply(far(1))],
    "most missing": [Reply(random_update(0.5, 1)), Reply(random_update(0.5, 2))],
    "more than expected": [Reply(far(seed)) for seed in range(25)],
    "all the same": [Reply(far(7)) for _ in range(12)],
    "one NaN": [Reply(random_update(0.3, 1)), Reply(with_one(torch.nan))],
    "all NaN": [Reply(filled(torch.nan)), Reply(random_update(0.3, 1))],
    "infinite": [Reply(with_one(-torch.inf)), Reply(far(2))],
    "squares overflow": [Reply(filled(1e300)), Reply(random_update(0.3, 1))],
    "tiny": [Reply(filled(1e-320)), Reply(filled(0.0))],
}


def check_sensitivity(aggregate: Aggregate, replies: Sequence[Reply]) -> None:
    """Without its noise, leaving out any one client moves the release by clip / cohort at most."""
    plan = make_client_plan()
    largest = plan.clip / plan.expected_cohort * (1 + 1e-9)
    whole = aggregate(replies, LIKE, plan, Silent())
    for index in range(len(replies)):
        without = aggregate([*replies[:index], *replies[index + 1 :]], LIKE, plan, Silent())
        moved = distance(whole, without)
        assert moved <= largest, f"without reply {index}: {moved:.3g} > {largest:.3g}"


def check_noise(aggregate: Aggregate, answered: int, randomness: Randomness) -> None:
    """The noise has the planned standard deviation, however many clients answered."""
    plan = make_client_plan(noise_multiplier=1.5, clip=0.3)
    like = {"weight": torch.zeros(300, 400), "scale": torch.zeros(())}
    update = {name: torch.full_like(value, 1e-3) for name, value in like.items()}
    replies = [Reply(update)] * answered
    noise = (
        aggregate(replies, like, plan, randomness)["weight"]
        - aggregate(replies, like, plan, Silent())["weight"]
    )
    planned = plan.noise_multiplier * plan.clip / plan.expected_cohort
    assert abs(float(noise.std()) / planned - 1) < 0.02
    assert abs(float(noise.mean())) < 0.02 * planned


@pytest.mark.parametrize("name", COHORTS)
def test_one_client_moves_the_release_by_at_most_clip_over_cohort(name: str) -> None:
    check_sensitivity(released, COHORTS[name])


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        (weighted_by_examples, "unequal counts of examples"),
        (divided_by_the_actual_count, "all but one missing"),
        (divided_by_the_actual_count, "most missing"),
        (without_clipping, "all the same"),
        (clipped_array_by_array, "all the same"),
        (nan_passes_the_clip, "one NaN"),
        (nan_passes_the_clip, "all NaN"),
        (nan_passes_the_clip, "infinite"),
    ],
)
def test_planted_bugs_of_sensitivity_are_caught(planted: Aggregate, name: str) -> None:
    with pytest.raises(AssertionError):
        check_sensitivity(planted, COHORTS[name])


@pytest.mark.parametrize("answered", [0, 1, 10, 30])
def test_every_round_releases_the_planned_noise_an_empty_one_too(answered: int) -> None:
    check_noise(released, answered, DeterministicRandomness(0))


def test_the_secure_generator_gives_the_planned_noise() -> None:
    check_noise(released, 2, SecureRandomness())


@pytest.mark.parametrize(
    ("planted", "answered"),
    [
        (empty_round_skipped, 0),
        (noise_shared_by_the_actual_count, 10),
        (noise_for_a_clip_of_one, 1),
    ],
)
def test_planted_bugs_of_noise_are_caught(planted: Aggregate, answered: int) -> None:
    with pytest.raises(AssertionError):
        check_noise(planted, answered, DeterministicRandomness(0))


values = st.lists(st.floats(width=32), min_size=9, max_size=9)


@settings(max_examples=200)
@given(
    cohort=st.lists(values, max_size=5),
    joining=values,
    clip=st.floats(1e-4, 1e4),
    expected_cohort=st.floats(0.1, 1e4),
)
def test_no_client_moves_any_sum_by_more(
    cohort: list[list[float]], joining: list[float], clip: float, expected_cohort: float
) -> None:
    plan = make_client_plan(clip=clip, expected_cohort=expected_cohort)

    def average(clients: Sequence[Sequence[float]]) -> State:
        arrays = [torch.tensor(client, dtype=torch.float32) for client in clients]
        updates = [{"weight": a[:6].reshape(2, 3), "bias": a[6:]} for a in arrays]
        return release_average(updates, LIKE, plan, clip, Silent()).average

    moved = distance(average(cohort), average([*cohort, joining]))
    assert moved <= clip / expected_cohort * (1 + 1e-9)


# --- the server's rounds -------------------------------------------------------------------------


def refuses(message: Message, state: State) -> Message:
    return refused_reply(message, "no", 0.0)


def nan(message: Message, state: State) -> Message:
    return trained_reply(message, to_arrays({n: v * torch.nan for n, v in state.items()}), 0.0)


def raises(message: Message, state: State) -> Message:
    raise ValueError("the sensor is gone")


def released_student(answers: Sequence[Answer], directory: Path, *overrides: str) -> State:
    """The student after one round with seeded noise."""
    plan = make_client_plan(expected_cohort=3.0, participation_rate=1.0, epsilon=1e3)
    options = ("federation.rounds=1", *overrides)
    made = federation(directory, len(answers), *options, client_plan=plan)
    (record,) = run_scripted(ScriptedClients(answers), made).history
    assert record.released
    return made.result


@pytest.mark.parametrize("answer", [add(1e6), add(0.05), nan, raises, refuses])
def test_one_client_moves_the_next_student_by_at_most_clip_over_cohort(
    answer: Answer, tmp_path: Path
) -> None:
    others: list[Answer] = [add(-1e4), add(0.01)]
    without = released_student([*others, refuses], tmp_path / "without")
    joined = released_student([*others, answer], tmp_path / "joined")
    assert distance(joined, without) <= 0.5 / 3 * (1 + 1e-5)  # float32 weights


@pytest.mark.parametrize("answer", [refuses, nan, raises])
def test_a_round_without_a_single_good_reply_releases_the_noise_of_every_other(
    answer: Answer, tmp_path: Path
) -> None:
    none = released_student([answer] * 3, tmp_path / "none")
    still = released_student([add(0.0)] * 3, tmp_path / "still")
    assert all(torch.equal(none[name], value) for name, value in still.items())
    assert all((none[name] != value).all() for name, value in STUDENT.items())


def test_an_empty_cohort_releases_noise(tmp_path: Path) -> None:
    sampled = ("federation.fraction=1e-9", "federation.sampling=bernoulli")
    student = released_student([add(1.0)] * 3, tmp_path, *sampled)
    assert all((student[name] != value).all() for name, value in STUDENT.items())
