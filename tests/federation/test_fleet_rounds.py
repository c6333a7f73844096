"""Rounds on a simulated fleet: who is asked, whose reply counts, and what a resumed run repeats."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedlite.federation.checkpoint import load_checkpoint
from fedlite.federation.fleet import Fleet
from fedlite.federation.rounds import Federation
from tests.federation.fleets import device, make_fleet
from tests.federation.scripted import (
    STUDENT,
    ScriptedClients,
    add,
    federation,
    run_scripted,
)
from tests.federation.test_rounds import raises, refuses
from tests.privacy.world import make_plan

SLOW = {"fast": device(share=1e9), "slow": device(share=1e9, gflops=0.1)}
MOVED = {"busy": device(availability=0.6, dropout=0.2)}


def with_fleet(made: Federation, fleet: Fleet) -> Federation:
    made.fleet = fleet
    return made


def test_without_a_fleet_nothing_is_simulated(tmp_path: Path) -> None:
    made = run_scripted(ScriptedClients([add(1.0)] * 2), federation(tmp_path, 2))
    assert [record.simulated for record in made.history] == [{}, {}]


def test_who_is_away_is_not_asked_and_who_leaves_is_not_counted(tmp_path: Path) -> None:
    fleet = make_fleet(12, classes=MOVED)
    clients = ScriptedClients([add(1.0)] * 12)
    made = run_scripted(clients, with_fleet(federation(tmp_path, 12), fleet))
    for record in made.history:
        visits = fleet.visits(record.round, range(12))
        there = {visit.client for visit in visits if visit.there}
        gone = {visit.client for visit in visits if visit.there and visit.leaves}
        assert {client for number, client in clients.asked if number == record.round} == there
        assert 0 < len(there) < 12
        assert record.clients_trained == len(there - gone)
        assert record.simulated["left"] == len(gone)
        assert record.simulated["away"] == 12 - len(there)


def test_late_replies_are_dropped_though_they_were_trained_and_charged(tmp_path: Path) -> None:
    """The slow ones add 100: nothing of that may show, and their epsilon must."""
    fleet = make_fleet(6, classes=SLOW, deadline_s=16.0)
    slow = [client for client in range(6) if fleet.class_names[client] == "slow"]
    assert 0 < len(slow) < 6
    answers = [add(100.0 if client in slow else 1.0) for client in range(6)]
    made = with_fleet(federation(tmp_path, 6, plan=make_plan()), fleet)
    run_scripted(ScriptedClients(answers), made)
    assert torch.equal(made.result["weight"], STUDENT["weight"] + 2)
    for record in made.history:
        assert record.clients_trained == 6 - len(slow)
        assert record.simulated["not_counted"] == len(slow)
        assert record.simulated["seconds"] == 16
        assert record.epsilons == [0.5] * 6
        assert record.clients_failed == 0


def test_the_first_visit_takes_the_teacher_s_time_once(tmp_path: Path) -> None:
    made = with_fleet(federation(tmp_path, 2), make_fleet(2))
    run_scripted(ScriptedClients([add(1.0)] * 2), made)
    assert [record.simulated["seconds"] for record in made.history] == [15, 6]
    assert [record.simulated["clock_seconds"] for record in made.history] == [15, 21]
    assert [record.simulated["joules"] for record in made.history] == [2 * (14 + 8), 2 * 8]


def test_over_selection_asks_more_and_counts_as_many_as_before(tmp_path: Path) -> None:
    made = federation(tmp_path, 10, "federation.fraction=0.4", "federation.rounds=5")
    clients = ScriptedClients([add(1.0)] * 10)
    run_scripted(clients, with_fleet(made, make_fleet(10, over_selection=1.5, spread=0.5)))
    assert [record.clients_trained for record in made.history] == [4] * 5
    assert [record.simulated["asked"] for record in made.history] == [6] * 5
    assert [record.simulated["not_counted"] for record in made.history] == [2] * 5
    assert len(clients.asked) == 30


def test_refusals_and_failures_make_room_for_the_next_reply(tmp_path: Path) -> None:
    made = federation(tmp_path, 4, "federation.fraction=0.5", "federation.rounds=1")
    answers = [refuses, raises, add(1.0), add(1.0)]
    run_scripted(ScriptedClients(answers), with_fleet(made, make_fleet(4, over_selection=2)))
    assert made.history[0].clients_trained == 2
    assert torch.equal(made.result["weight"], STUDENT["weight"] + 1)


def test_a_sum_of_fewer_than_its_noise_is_made_for_is_kept_back(tmp_path: Path) -> None:
    """Under aggregate trust; whether the others are away, gone, or late."""
    plan = make_plan(trust="aggregate", min_cohort=4)
    for name, fleet in {
        "late": make_fleet(6, classes=SLOW, deadline_s=16.0),
        "away": make_fleet(6, classes={"seldom": device(availability=0.3)}),
        "gone": make_fleet(6, classes={"leaving": device(dropout=0.8)}),
        "enough": make_fleet(6),
    }.items():
        made = with_fleet(federation(tmp_path / name, 6, plan=plan), fleet)
        run_scripted(ScriptedClients([add(1.0)] * 6), made)
        for record in made.history:
            assert record.released == (record.clients_trained >= 4)
        assert (made.history[0].clients_trained >= 4) == (name == "enough"), name
        released = sum(record.released for record in made.history)
        torch.testing.assert_close(made.result["weight"], STUDENT["weight"] + released)


@pytest.mark.parametrize("options", [{}, {"over_selection": 1.5}, {"deadline_s": 7.0}])
def test_a_run_goes_on_with_the_same_bits_and_the_same_clock(
    tmp_path: Path, options: dict[str, float]
) -> None:
    fleet = make_fleet(8, classes=MOVED, spread=0.5, **options)

    def begun(name: str) -> Federation:
        more = ("federation=fedavgm", "federation.fraction=0.6", "federation.rounds=6")
        return with_fleet(federation(tmp_path / name, 8, *more), fleet)

    class PowerCutError(Exception):
        pass

    def cut(record: object) -> None:
        if len(load_checkpoint(broken.checkpoint_path).history) == 3:
            raise PowerCutError

    def clients() -> ScriptedClients:
        return ScriptedClients([add(2.0**client) for client in range(8)])

    whole = run_scripted(clients(), begun("whole"))
    broken = begun("broken")
    broken.on_round = cut
    with pytest.raises(PowerCutError):
        run_scripted(clients(), broken)
    resumed = run_scripted(clients(), begun("broken"))
    assert [replace(one, seconds={}) for one in resumed.history] == [
        replace(one, seconds={}) for one in whole.history
    ]
    assert all(torch.equal(resumed.result[name], value) for name, value in whole.result.items())
