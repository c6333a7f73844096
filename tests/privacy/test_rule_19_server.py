"""Rule 19, the server's side: one local step, sums only, and no sum under the smallest cohort."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from flwr.app import Message

from fedlite.base.errors import FedliteError, UsageError
from fedlite.federation import rounds
from fedlite.federation.messages import State
from fedlite.federation.plans import build_plan
from fedlite.federation.release import Released
from fedlite.federation.rounds import Federation
from fedlite.federation.sums.plain import PlainSum
from fedlite.privacy.plan import PrivacyPlan
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.stages.federate import make_federation
from tests.federation.scripted import (
    STUDENT,
    Answer,
    ScriptedClients,
    add,
    federation,
    run_scripted,
)
from tests.federation.test_rounds import nan, raises, refuses
from tests.privacy.world import Untrained, make_plan

AGGREGATE = ("privacy=aggregate", "federation=fedavg")


def aggregate_plan(min_cohort: int, colluders: int = 0) -> PrivacyPlan:
    return make_plan(
        trust="aggregate", noise_multiplier=1.0, min_cohort=min_cohort, colluders=colluders
    )


def run_aggregate(directory: Path, answers: Sequence[Answer], min_cohort: int) -> Federation:
    clients = ScriptedClients(answers)
    made = federation(directory, len(answers), *AGGREGATE, plan=aggregate_plan(min_cohort))
    return run_scripted(clients, made)


# --- what cannot be configured -------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["privacy=aggregate", "federation.local_steps=2"], "one local step"),
        (["privacy=client", "privacy.trust=aggregate"], "example-level noise"),
        (["privacy=both", "privacy.trust=aggregate"], "single updates"),
        (["privacy=aggregate", "federation.strategy.name=krum"], "must be one of"),
    ],
)
def test_settings_under_which_a_sum_would_not_hide_anybody_are_refused(
    overrides: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        compose_config(overrides)


@pytest.mark.parametrize(
    ("overrides", "clients", "words"),
    [
        (["privacy.aggregate.min_cohort=11"], 10, "no round has more than 10"),
        (["privacy.aggregate.min_cohort=6", "federation.fraction=0.5"], 10, "more than 5"),
        ([], 1, "no round has more than 1"),
        (["privacy.aggregate.min_cohort=5", "privacy.aggregate.colluders=4"], 10, "leaves nobody"),
    ],
)
def test_a_cohort_that_cannot_share_the_noise_is_refused(
    overrides: list[str], clients: int, words: str
) -> None:
    config = compose_config(["privacy=aggregate", *overrides])
    with pytest.raises(UsageError, match=words):
        build_plan(config.privacy, config.federation, [50] * clients)


def test_a_plan_of_two_local_steps_cannot_be_made() -> None:
    with pytest.raises(UsageError, match="local steps under trust aggregate"):
        make_plan(trust="aggregate", steps=2, min_cohort=10)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], 90),
        (["federation.fraction=0.5"], 45),
        (["privacy.aggregate.min_cohort=70"], 70),
    ],
)
def test_the_smallest_cohort_leaves_room_for_dropouts(overrides: list[str], expected: int) -> None:
    config = compose_config(["privacy=aggregate", *overrides])
    plan = build_plan(config.privacy, config.federation, [50] * 100)
    assert plan.min_cohort == expected
    assert plan.sharers == expected - 1


def test_clients_drawn_one_by_one_reach_the_smallest_cohort_in_nearly_every_round() -> None:
    options = ["federation.fraction=0.5", "federation.sampling=bernoulli"]
    config = compose_config(["privacy=aggregate", *options])
    plan = build_plan(config.privacy, config.federation, [50] * 100)
    assert 30 < plan.min_cohort < 40


# --- what the server does with the replies --------------------------------------------------


def check_small_sums_are_kept_back(directory: Path) -> None:
    """Two of four clients fail where the noise needs three: nothing of the round may be used."""
    made = run_aggregate(directory, [add(1), nan, add(2), refuses], min_cohort=3)
    assert all(torch.equal(made.result[name], STUDENT[name]) for name in STUDENT)
    assert [record.released for record in made.history] == [False, False]
    assert made.history[0].refusals == {"budget": 1}
    assert made.history[0].clients_trained == 2


def check_only_the_sum_is_used(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sum that is not made of these replies, the student must follow the sum alone."""

    def elsewhere(self: PlainSum, replies: Sequence[Message]) -> State:
        return {name: 4 * (value.double() + 0.25) for name, value in STUDENT.items()}

    monkeypatch.setattr(PlainSum, "total", elsewhere)
    made = run_aggregate(directory, [add(1), add(2), add(3), add(4)], min_cohort=3)
    for name, value in STUDENT.items():
        torch.testing.assert_close(made.result[name], value + 0.25)


def release_any_sum(trained: list[Message], state: State, **plans: object) -> Released:
    """Planted: single replies go into the strategy, however few they are."""
    return Released(trained)


def test_a_sum_over_too_few_clients_is_not_released(tmp_path: Path) -> None:
    check_small_sums_are_kept_back(tmp_path)


def test_the_server_learns_the_sum_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_only_the_sum_is_used(tmp_path, monkeypatch)


def test_planted_a_server_that_releases_whatever_came_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "release", release_any_sum)
    with pytest.raises(AssertionError):
        check_small_sums_are_kept_back(tmp_path / "small")
    with pytest.raises(AssertionError):
        check_only_the_sum_is_used(tmp_path / "sum", monkeypatch)


def test_a_sum_over_enough_clients_is_their_average(tmp_path: Path) -> None:
    made = run_aggregate(tmp_path, [add(1), add(2), raises, add(6)], min_cohort=3)
    for name, value in STUDENT.items():  # two rounds of (1 + 2 + 6) / 3
        torch.testing.assert_close(made.result[name], value + 6)
    assert all(record.released for record in made.history)


@pytest.mark.parametrize(
    ("privacy", "quiet"), [("aggregate", True), ("example", False), ("client", False)]
)
def test_every_run_under_aggregate_trust_keeps_single_replies_to_itself(
    privacy: str, quiet: bool, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    pipeline = Untrained(tiny_config(f"privacy={privacy}"), tmp_path)
    assert make_federation(pipeline, tmp_path / "checkpoint.pt").quiet is quiet


def test_what_is_wrong_with_one_reply_is_not_written_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def all_nan(make: Callable[[], object]) -> str:
        with pytest.raises(FedliteError) as refusal:
            make()
        return str(refusal.value)

    aggregate = all_nan(lambda: run_aggregate(tmp_path / "a", [nan, nan, nan], min_cohort=2))
    assert "finite" not in aggregate + caplog.text
    local = all_nan(
        lambda: run_scripted(ScriptedClients([nan, nan]), federation(tmp_path / "b", 2))
    )
    assert "finite" in local
