"""Simulated devices: formulas of time and energy, laws of the draws, the end of a round."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlite.federation.cohort import charged_rate
from fedlite.federation.fleet import (
    Fleet,
    Visit,
    Work,
    end_round,
    visit_joules,
    visit_seconds,
)
from fedlite.federation.options import FederationOptions, FleetOptions
from fedlite.federation.plans import answering_share
from tests.federation.fleets import WORK, device, make_fleet

POSITIVE = st.floats(1e-3, 1e6)


def visit(client: int, seconds: float, *, there: bool = True, leaves: bool = False) -> Visit:
    return Visit(client, there, leaves, seconds, joules=1.0, tie=client / 10)


# --- formulas -------------------------------------------------------------------------------


def test_a_visit_is_download_work_and_upload_one_after_the_other() -> None:
    seconds = visit_seconds(device(), WORK)
    assert (seconds.download, seconds.compute, seconds.upload) == (1, 2, 3)
    assert visit_seconds(device(), WORK, overhead=0.5).total == 6.5
    assert visit_joules(device(), seconds) == 2 * 2 + 1 * (1 + 3)
    first = visit_seconds(device(), WORK, first=True)
    assert (first.download, first.compute, first.upload) == (1 + 4, 2 + 5, 3)


@given(speed=POSITIVE, flops=st.floats(0, 1e15), size=st.integers(0, 10**10))
def test_twice_the_speed_is_half_the_time_and_half_the_energy(
    speed: float, flops: float, size: int
) -> None:
    work = Work(flops, bytes_down=size, bytes_up=size)
    one, two = (
        visit_seconds(device(gflops=rate, downlink_mbps=rate, uplink_mbps=rate), work)
        for rate in (speed, 2 * speed)
    )
    assert math.isclose(one.total, 2 * two.total, abs_tol=0)
    assert math.isclose(visit_joules(device(), one), 2 * visit_joules(device(), two), abs_tol=0)


@given(watts=POSITIVE, other=POSITIVE)
def test_energy_is_power_times_time_of_each_part(watts: float, other: float) -> None:
    seconds = visit_seconds(device(), WORK)
    found = visit_joules(device(compute_watts=watts, radio_watts=other), seconds)
    assert math.isclose(found, 2 * watts + 4 * other)


# --- draws ----------------------------------------------------------------------------------

TWO = {"seldom": device(share=3, availability=0.3), "leaving": device(share=1, dropout=0.4)}


def test_classes_are_drawn_by_their_shares_and_by_client_alone() -> None:
    many = make_fleet(4000, classes=TWO).class_names
    assert many.count("seldom") / 4000 == pytest.approx(0.75, abs=0.03)
    assert make_fleet(100, classes=TWO).class_names == many[:100], "who else is there decides"
    turned = dict(reversed(TWO.items()))
    assert make_fleet(100, classes=turned).class_names == many[:100]
    assert make_fleet(100, classes=TWO, seed=1).class_names != many[:100]


def test_who_is_there_and_who_leaves_follows_its_probability() -> None:
    fleet = make_fleet(40, classes=TWO)
    found = [fleet.visit(number, client) for number in range(100) for client in range(40)]
    seldom = [one for one in found if fleet.class_names[one.client] == "seldom"]
    others = [one for one in found if fleet.class_names[one.client] == "leaving"]
    assert np.mean([one.there for one in seldom]) == pytest.approx(0.3, abs=0.03)
    assert not any(one.leaves for one in seldom)
    assert all(one.there for one in others)
    assert np.mean([one.leaves for one in others]) == pytest.approx(0.4, abs=0.05)
    shares = [one.seconds / 6 for one in others if one.leaves]
    assert min(shares) > 0
    assert max(shares) < 1
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert all(one.joules == pytest.approx(8 * one.seconds / 6) for one in found)


def test_draws_are_of_client_and_round_alone() -> None:
    fleet = make_fleet(10, classes=TWO, spread=0.5)
    again = make_fleet(10, classes=TWO, spread=0.5)
    backwards = [again.visit(number, 3) for number in (3, 2, 1)]
    assert [fleet.visit(number, 3) for number in (1, 2, 3)] == backwards[::-1]
    assert len({one.tie for one in backwards}) == 3
    assert fleet.visits(2, [3, 4]) == [fleet.visit(2, 3), fleet.visit(2, 4)]


def test_times_of_a_class_are_log_normal_about_its_nominal_time() -> None:
    fleet = make_fleet(2000, spread=0.5)
    logs = [math.log(fleet.visit(1, client).seconds / 6) for client in range(2000)]
    assert np.mean(logs) == pytest.approx(0, abs=0.04)
    assert np.std(logs) == pytest.approx(0.5, abs=0.03)


def test_those_who_lack_the_teacher_take_longer() -> None:
    first, second = make_fleet(2).visits(1, [0, 1], lacking={1})
    assert (first.seconds, second.seconds) == (6, 15)


# --- the end of a round ---------------------------------------------------------------------

FOUR = [visit(0, 5.0), visit(1, 2.0), visit(2, 9.0), visit(3, 4.0)]
ALL = range(4)


def test_a_round_waits_for_all_that_are_there_unless_it_need_not() -> None:
    assert end_round(FOUR, ALL, None, None) == end_round(FOUR, ALL, 4, None)
    assert end_round(FOUR, ALL, None, None).seconds == 9
    end = end_round(FOUR, ALL, 2, None)
    assert (end.seconds, end.counted) == (4, (1, 3))
    end = end_round(FOUR, ALL, None, 5.0)
    assert (end.seconds, end.counted) == (5, (0, 1, 3))
    assert end_round(FOUR, ALL, 3, 4.5).counted == (1, 3)


def test_who_is_away_is_not_waited_for_and_who_leaves_only_until_then() -> None:
    visits = [visit(0, 5.0), visit(1, 50.0, there=False), visit(2, 7.0, leaves=True)]
    end = end_round(visits, [0, 1, 2], None, None)
    assert (end.seconds, end.counted) == (7, (0,))
    assert end_round(visits, [0, 1, 2], 2, None).seconds == 7, "two will never answer"
    assert end_round([], [], None, 10.0).seconds == 0


def test_a_refusal_makes_room_for_the_next_reply() -> None:
    end = end_round(FOUR, [0, 2, 3], 2, None)
    assert (end.seconds, end.counted) == (5, (0, 3))


@given(
    seconds=st.lists(st.floats(0, 100), min_size=1, max_size=12),
    leaving=st.sets(st.integers(0, 11)),
    needed=st.none() | st.integers(1, 12),
    deadline=st.none() | st.floats(0.1, 100),
)
def test_whoever_counts_was_in_before_all_who_do_not(
    seconds: list[float], leaving: set[int], needed: int | None, deadline: float | None
) -> None:
    visits = [visit(i, one, leaves=i in leaving) for i, one in enumerate(seconds)]
    end = end_round(visits, range(len(visits)), needed, deadline)
    assert set(end.counted) <= set(range(len(visits))) - leaving
    assert needed is None or len(end.counted) <= needed
    assert all(seconds[i] <= end.seconds for i in end.counted)
    assert deadline is None or end.seconds <= deadline
    missed = set(range(len(visits))) - leaving - set(end.counted)
    assert all(seconds[i] >= end.seconds for i in missed)


def test_over_selection_asks_more_and_needs_as_many_as_before() -> None:
    config = FederationOptions(fraction=0.5)
    assert make_fleet(20).needed(config) is None
    assert make_fleet(20, over_selection=1.3).needed(config) == 10


# --- what is told, and what plans count on --------------------------------------------------


def test_a_round_is_told_with_its_time_and_its_clients() -> None:
    fleet = make_fleet(4, deadline_s=6.0)
    visits = [visit(0, 5.0), visit(1, 6.5), visit(2, 1.0, leaves=True), visit(3, 1.0, there=False)]
    found = fleet.account(1, visits, end_round(visits, ALL, None, 6.0), clock_seconds=10.0)
    assert found == {
        "seconds": 6,
        "clock_seconds": 16,
        "joules": 3,
        "asked": 4,
        "away": 1,
        "left": 1,
        "not_counted": 1,
    }


def test_plans_count_who_is_asked_and_there_whether_counted_or_not() -> None:
    federation = FederationOptions(fraction=0.5)
    options = make_fleet(20, classes=TWO, over_selection=1.2).options
    assert charged_rate(federation, 20, FleetOptions()) == 0.5
    assert charged_rate(federation, 20, options) == 0.6
    seldom = replace(options, classes={"seldom": TWO["seldom"]})
    assert charged_rate(federation, 20, seldom) == pytest.approx(0.18)
    assert answering_share(options) == pytest.approx((3 * 0.3 + 1 * 0.6) / 4)


@given(
    fraction=st.floats(0.05, 1), over=st.floats(1, 5), there=st.floats(0.05, 1), seed=st.integers(0)
)
def test_no_client_is_charged_more_often_than_plans_count_on(
    fraction: float, over: float, there: float, seed: int
) -> None:
    """The rate bounds asked and there; both are drawn apart from each other."""
    federation = FederationOptions(fraction=fraction)
    fleet: Fleet = make_fleet(
        10, classes={"any": device(availability=there)}, over_selection=over, seed=seed
    )
    asked = min(1.0, max(1, round(10 * min(1, fraction * over))) / 10)
    assert charged_rate(federation, 10, fleet.options) >= asked * there - 1e-9
