"""Buffered asynchronous aggregation in simulated time (FedBuff: Nguyen et al. 2022, 2106.06639).

Clients stay at work while the server moves on. A round is one step of the server: idle clients are
asked until ``concurrency`` are at work, and the step takes the next ``buffer_size`` updates that
arrive, whatever model they started from. (The paper asks anew at every arrival.) An update that
missed n steps is weighted by (1 + n)^-``staleness_power``.

Every reply is noised enough alone (local trust), so what is done with it is post-processing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Message

from fedlite.federation.fleet import Fleet, Visit
from fedlite.federation.messages import State, arrays_in, to_state
from fedlite.federation.release import as_reply
from fedlite.privacy.randomness import derive_seed


@dataclass(frozen=True)
class AtWork:
    """A client that was asked in round ``asked``: at ``until`` on the simulated clock its update
    arrives or, where that is None, it is gone. ``tie`` orders what happens at one moment."""

    asked: int
    until: float
    tie: float
    update: State | None


@dataclass(frozen=True)
class Arrived:
    """What a step of the server takes: when it ends, who works on, and by client, in their order,
    the updates with the number of steps that each has missed."""

    clock_seconds: float
    working: dict[int, AtWork]
    updates: dict[int, tuple[State, int]]

    @property
    def staleness(self) -> float:
        """Steps that the updates have missed, on average."""
        return sum(missed for _, missed in self.updates.values()) / max(1, len(self.updates))


def ask_idle(
    fleet: Fleet, number: int, working: Collection[int], lacking: Collection[int]
) -> list[Visit]:
    """Visits of idle clients, in an order drawn from (seed, round), until as many of them are there
    as are missing at work; ascending by client.

    Args:
        fleet: the devices, and how many work at a time.
        number: of the round.
        working: clients at work.
        lacking: clients that lack the teacher.
    """
    rng = np.random.default_rng(derive_seed(fleet.seed, "cohort", number))
    wanted, visits = fleet.options.concurrency - len(working), list[Visit]()
    for drawn in rng.permutation(fleet.num_clients):
        if wanted <= 0:
            break
        if (client := int(drawn)) in working:
            continue
        visits.append(fleet.visit(number, client, first=client in lacking))
        wanted -= visits[-1].there
    return sorted(visits, key=lambda visit: visit.client)


def put_to_work(
    working: Mapping[int, AtWork],
    number: int,
    clock_seconds: float,
    visits: Sequence[Visit],
    updates: Mapping[int, State],
) -> dict[int, AtWork]:
    """``working`` and those that were asked in round ``number``, at ``clock_seconds``.

    Args:
        updates: by client; one that refused or failed has none and is idle at once.
    """
    begun = {
        visit.client: AtWork(
            asked=number,
            until=clock_seconds + visit.seconds,
            tie=visit.tie,
            update=None if visit.leaves else updates[visit.client],
        )
        for visit in visits
        if visit.there and visit.client in updates
    }
    return {**working, **begun}


def next_arrivals(
    working: Mapping[int, AtWork], number: int, clock_seconds: float, buffer_size: int
) -> Arrived:
    """The next ``buffer_size`` updates, in round ``number``; fewer if no more are on their way."""
    rest, found = dict(working), dict[int, tuple[State, int]]()
    for client in sorted(working, key=lambda one: (working[one].until, working[one].tie)):
        if len(found) == buffer_size:
            break
        one = rest.pop(client)
        clock_seconds = one.until
        if one.update is not None:
            found[client] = (one.update, number - one.asked)
    return Arrived(clock_seconds, rest, dict(sorted(found.items())))


def account_step(
    visits: Sequence[Visit], trained: Collection[int], arrived: Arrived, clock_seconds: float
) -> dict[str, float]:
    """What a round's record tells of its simulated time, and the ``staleness`` of its updates.

    Args:
        visits: of those who were asked.
        trained: those of them who began to work; the others there refused or failed.
        arrived: what the step took.
        clock_seconds: simulated before it.
    """
    there = [visit for visit in visits if visit.there]
    return {
        "seconds": arrived.clock_seconds - clock_seconds,
        "clock_seconds": arrived.clock_seconds,
        "joules": sum(visit.joules for visit in there),
        "asked": float(len(visits)),
        "away": float(len(visits) - len(there)),
        "left": float(sum(visit.leaves for visit in there)),
        "not_counted": float(sum(visit.client not in trained for visit in there)),
        "staleness": arrived.staleness,
    }


def updates_of(trained: Mapping[int, Message], state: State) -> dict[int, State]:
    """What each trained reply changed of the student that it was sent."""
    return {
        client: {name: value - state[name] for name, value in _student(reply).items()}
        for client, reply in trained.items()
    }


def stale_replies(arrived: Arrived, state: State, power: float) -> dict[int, Message]:
    """The updates that arrived, weighted by their staleness, as replies to today's student."""
    return {
        client: as_reply(
            {name: state[name] + (1 + missed) ** -power * update[name] for name in state}
        )
        for client, (update, missed) in arrived.updates.items()
    }


def _student(reply: Message) -> State:
    return to_state(arrays_in(reply.content))
