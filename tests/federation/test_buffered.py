"""Buffered asynchronous rounds (FedBuff): who is at work, which updates a step takes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlite.base.errors import UsageError
from fedlite.federation.buffered import AtWork, ask_idle, next_arrivals, put_to_work
from fedlite.federation.checkpoint import load_checkpoint
from fedlite.federation.fleet import Fleet, Visit
from fedlite.federation.messages import State
from fedlite.federation.rounds import Federation
from fedlite.runs.compose import compose_config
from fedlite.runs.fleet import foresee_rounds
from tests.federation.fleets import device, make_fleet
from tests.federation.scripted import STUDENT, ScriptedClients, add, federation, run_scripted
from tests.federation.test_rounds import refuses

BUSY = {"fast": device(availability=0.7, dropout=0.1), "slow": device(gflops=0.3, dropout=0.1)}
ONE: State = {"weight": torch.ones(1)}


def asynchronous(num_clients: int, buffer: int, concurrency: int, **options: object) -> Fleet:
    more = {"asynchronous": True, "buffer_size": buffer, "concurrency": concurrency, **options}
    return make_fleet(num_clients, **more)  # type: ignore[arg-type]


def with_fleet(made: Federation, fleet: Fleet) -> Federation:
    made.fleet = fleet
    return made


# --- who is at work -------------------------------------------------------------------------


def test_idle_clients_are_asked_until_enough_are_at_work() -> None:
    fleet = asynchronous(30, 2, 10, classes=BUSY)
    visits = ask_idle(fleet, 3, working={1, 2, 3}, lacking=())
    assert sum(visit.there for visit in visits) == 7
    assert not {1, 2, 3} & {visit.client for visit in visits}
    assert visits == ask_idle(fleet, 3, working={1, 2, 3}, lacking=())
    assert visits != ask_idle(fleet, 4, working={1, 2, 3}, lacking=())
    assert ask_idle(fleet, 3, working=range(10), lacking=()) == []
    assert len(ask_idle(asynchronous(4, 2, 10), 1, working=(), lacking=())) == 4


def test_whoever_refused_is_idle_and_whoever_leaves_sends_nothing() -> None:
    visits = [
        Visit(0, True, False, 2.0, 1.0, 0.5),
        Visit(1, True, True, 1.0, 1.0, 0.5),
        Visit(2, True, False, 3.0, 1.0, 0.5),
        Visit(3, False, False, 3.0, 1.0, 0.5),
    ]
    working = put_to_work({}, 1, 10.0, visits, {0: ONE, 1: ONE, 3: ONE})
    assert {client: one.until for client, one in working.items()} == {0: 12, 1: 11}
    assert working[1].update is None


@given(
    until=st.lists(st.floats(0, 100), min_size=1, max_size=10),
    gone=st.sets(st.integers(0, 9)),
    size=st.integers(1, 5),
)
def test_a_step_takes_the_next_updates_and_leaves_the_later_ones(
    until: list[float], gone: set[int], size: int
) -> None:
    working = {
        client: AtWork(1, when, client / 10, None if client in gone else ONE)
        for client, when in enumerate(until)
    }
    arrived = next_arrivals(working, 3, 0.0, size)
    assert len(arrived.updates) == min(size, len(set(working) - gone))
    assert list(arrived.updates) == sorted(arrived.updates)
    assert all(missed == 2 for _, missed in arrived.updates.values())
    assert all(until[client] <= arrived.clock_seconds for client in arrived.updates)
    assert all(one.until >= arrived.clock_seconds for one in arrived.working.values())
    assert not set(arrived.updates) & set(arrived.working)


# --- the rounds -----------------------------------------------------------------------------


def test_a_step_averages_updates_weighted_by_the_steps_that_they_missed(tmp_path: Path) -> None:
    """Client 0 is in after 15 s, then every 6; client 1 after 101.7, when 15 steps are done. The
    next step takes what client 0 began before that one."""
    classes = {"fast": device(), "slow": device(gflops=0.1, uplink_mbps=0.9)}
    fleets = (asynchronous(2, 1, 2, classes=classes, seed=seed) for seed in range(99))
    fleet = next(one for one in fleets if one.class_names == ("fast", "slow"))
    made = with_fleet(federation(tmp_path, 2, "federation.rounds=20"), fleet)
    clients = ScriptedClients([add(1.0), add(100.0)])
    run_scripted(clients, made)
    staleness = [one.simulated["staleness"] for one in made.history]
    assert staleness == [0] * 15 + [15, 1] + [0] * 3
    expected = 18 + 100 / 16**0.5 + 1 / 2**0.5
    torch.testing.assert_close(made.result["weight"], STUDENT["weight"] + expected)
    assert [one.clients_trained for one in made.history] == [1] * 20
    assert sorted(client for _, client in clients.asked) == [0] * 19 + [1] * 2
    clock = [one.simulated["clock_seconds"] for one in made.history]
    assert clock[:15] == [15.0 + 6 * step for step in range(15)]
    assert clock[15:17] == [pytest.approx(305 / 3), 105]


def test_everybody_fast_and_a_buffer_of_all_is_the_synchronous_round(tmp_path: Path) -> None:
    answers = [add(1.0), add(2.0), add(6.0)]
    fleet = asynchronous(3, 3, 3)
    made = with_fleet(federation(tmp_path / "a", 3, "federation=fedavgm"), fleet)
    run_scripted(ScriptedClients(answers), made)
    other = with_fleet(federation(tmp_path / "s", 3, "federation=fedavgm"), make_fleet(3))
    run_scripted(ScriptedClients(answers), other)
    assert all(torch.equal(made.result[name], value) for name, value in other.result.items())
    assert [one.simulated["clock_seconds"] for one in made.history] == [
        one.simulated["clock_seconds"] for one in other.history
    ]


def test_where_all_refuse_no_time_passes_and_the_run_ends_well(tmp_path: Path) -> None:
    made = with_fleet(federation(tmp_path, 3), asynchronous(3, 2, 3))
    run_scripted(ScriptedClients([refuses] * 3), made)
    assert [one.clients_refused for one in made.history] == [3, 3]
    assert [one.simulated["seconds"] for one in made.history] == [0, 0]
    assert all(torch.equal(made.result[name], value) for name, value in STUDENT.items())


def test_a_resumed_run_has_the_same_bits_with_clients_still_at_work(tmp_path: Path) -> None:
    fleet = asynchronous(9, 2, 6, classes=BUSY, spread=0.4)

    def begun(name: str) -> Federation:
        made = federation(tmp_path / name, 9, "federation=fedavgm", "federation.rounds=8")
        return with_fleet(made, fleet)

    class PowerCutError(Exception):
        pass

    def cut(record: object) -> None:
        saved = load_checkpoint(broken.checkpoint_path)
        if len(saved.history) == 4:
            assert saved.working
            raise PowerCutError

    def clients() -> ScriptedClients:
        return ScriptedClients([add(2.0**client) for client in range(9)])

    whole = run_scripted(clients(), begun("whole"))
    assert any(one.simulated["staleness"] > 0 for one in whole.history)
    broken = begun("broken")
    broken.on_round = cut
    with pytest.raises(PowerCutError):
        run_scripted(clients(), broken)
    asked = clients()
    resumed = run_scripted(asked, begun("broken"))
    assert {number for number, _ in asked.asked} <= {5, 6, 7, 8}
    assert [replace(one, seconds={}) for one in resumed.history] == [
        replace(one, seconds={}) for one in whole.history
    ]
    assert all(torch.equal(resumed.result[name], value) for name, value in whole.result.items())


@pytest.mark.parametrize(
    "fleet",
    [
        asynchronous(9, 2, 6, classes=BUSY, spread=0.4),
        make_fleet(9, classes=BUSY, spread=0.4, deadline_s=8.0),
    ],
    ids=["asynchronous", "deadline"],
)
def test_a_plan_foresees_what_a_run_without_refusals_tells(tmp_path: Path, fleet: Fleet) -> None:
    made = with_fleet(federation(tmp_path, 9, "federation.rounds=8"), fleet)
    clients = ScriptedClients([add(1.0)] * 9)
    run_scripted(clients, made)
    foreseen = foresee_rounds(fleet, made.options)
    assert foreseen.rounds == [one.simulated for one in made.history]
    times = Counter(client for _, client in clients.asked)
    assert foreseen.most_visits == max(times.values())


# --- what cannot be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("privacy=aggregate",), "needs whole cohorts"),
        (("privacy=client", "privacy.expected_examples=60"), "needs whole cohorts"),
        (("privacy=both", "privacy.expected_examples=60"), "needs whole cohorts"),
        (("fleet.deadline_s=9",), "a round ends with its buffer"),
        (("federation.fraction=0.5",), "keeps fleet.concurrency=20 clients at work"),
        (("fleet.buffer_size=21",), "more than fleet.concurrency=20"),
    ],
)
def test_it_is_refused_where_replies_are_not_noised_enough_alone(
    overrides: Sequence[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        compose_config(["fleet=phones", "fleet.asynchronous=true", *overrides])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("privacy", ["example", "none"])
def test_it_is_taken_where_they_are(privacy: str) -> None:
    options = ["fleet=phones", "fleet.asynchronous=true", f"privacy={privacy}"]
    assert compose_config(options).fleet.asynchronous
