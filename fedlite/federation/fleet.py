"""Simulated devices: how long a client's visit takes, what it costs, and when a round ends.

Pure functions of public numbers: options, seed, sizes of networks and the nominal batch. Nothing
here sees how many examples a client holds, so that whose reply counts tells nothing of them
(docs/fleets.md).
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedlite.federation.cohort import cohort_size
from fedlite.federation.options import DeviceClass, FederationOptions, FleetOptions
from fedlite.privacy.randomness import derive_seed


@dataclass(frozen=True)
class Work:
    """What one visit asks of a device, in public numbers.

    ``first_flops`` and ``first_bytes_down`` come on top where the client lacks the teacher: it
    receives it and asks it about its examples, ``expected_examples`` of them by name.
    """

    flops: float
    bytes_down: int
    bytes_up: int
    first_flops: float = 0.0
    first_bytes_down: int = 0


@dataclass(frozen=True)
class VisitSeconds:
    """The parts of a visit."""

    download: float
    compute: float
    upload: float
    overhead: float = 0.0

    @property
    def total(self) -> float:
        """From the request to the reply."""
        return self.download + self.compute + self.upload + self.overhead


def visit_seconds(
    device: DeviceClass, work: Work, *, first: bool = False, overhead: float = 0.0
) -> VisitSeconds:
    """How long a device of a class takes for ``work``, one part after the other.

    Args:
        device: the class.
        work: FLOP and bytes.
        first: whether the client lacks the teacher.
        overhead: seconds on top of work and transfer.
    """
    flops = work.flops + first * work.first_flops
    bytes_down = work.bytes_down + first * work.first_bytes_down
    return VisitSeconds(
        download=8 * bytes_down / (1e6 * device.downlink_mbps),
        compute=flops / (1e9 * device.gflops),
        upload=8 * work.bytes_up / (1e6 * device.uplink_mbps),
        overhead=overhead,
    )


def visit_joules(device: DeviceClass, seconds: VisitSeconds) -> float:
    """What a visit of so many ``seconds`` takes from the battery, above what idling takes."""
    radio = seconds.download + seconds.upload
    return device.compute_watts * seconds.compute + device.radio_watts * radio


@dataclass(frozen=True)
class Visit:
    """What becomes of one client in one round.

    ``seconds`` after the request its reply arrives or, if it ``leaves``, it is gone; ``joules`` is
    what it has spent by then. A client that is not ``there`` is not asked. ``tie`` orders replies
    of one moment.
    """

    client: int
    there: bool
    leaves: bool
    seconds: float
    joules: float
    tie: float


@dataclass(frozen=True)
class RoundEnd:
    """When a round ended, after so many seconds, and whose replies count, in client order."""

    seconds: float
    counted: tuple[int, ...]


def end_round(
    visits: Iterable[Visit],
    trained: Collection[int],
    needed: int | None,
    deadline: float | None,
) -> RoundEnd:
    """A round ends once ``needed`` trained replies are in, once nobody is left to wait for, or at
    the ``deadline``, whichever comes first.

    Args:
        visits: of the clients that were asked.
        trained: those whose reply is a trained student; a refusal or a failure is not waited for
            again, and counts for nothing.
        needed: replies; None waits for all.
        deadline: seconds.
    """
    there = [visit for visit in visits if visit.there]
    last = max((visit.seconds for visit in there), default=0.0)
    end = last if deadline is None else min(last, deadline)
    answers = [visit for visit in there if not visit.leaves and visit.client in trained]
    in_time = sorted(
        (visit for visit in answers if visit.seconds <= end),
        key=lambda visit: (visit.seconds, visit.tie),
    )
    if needed is not None and len(in_time) >= needed:
        in_time = in_time[:needed]
        end = in_time[-1].seconds
    return RoundEnd(end, tuple(sorted(visit.client for visit in in_time)))


@dataclass(frozen=True)
class Fleet:
    """The devices of a run's clients.

    ``work`` is that of every visit. Where the cohort is a secret, ``hidden_rate`` is the
    probability with which it draws a client: what is told of a round is then its expectation over
    the draw (rule 15).
    """

    options: FleetOptions
    seed: int
    num_clients: int
    work: Work
    hidden_rate: float | None = None

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The class of every client: each draws its own from (seed, client), by the shares."""
        names = sorted(self.options.classes)
        shares = np.cumsum([self.options.classes[name].share for name in names])
        draws = (
            np.random.default_rng(derive_seed(self.seed, "fleet", client)).random()
            for client in range(self.num_clients)
        )
        places = (int(np.searchsorted(shares, draw * shares[-1], side="right")) for draw in draws)
        return tuple(names[min(place, len(names) - 1)] for place in places)

    def device(self, client: int) -> DeviceClass:
        """The class of one client."""
        return self.options.classes[self.class_names[client]]

    def seconds(self, device: DeviceClass, *, first: bool = False) -> VisitSeconds:
        """The nominal visit of a class."""
        overhead = self.options.overhead_s
        return visit_seconds(device, self.work, first=first, overhead=overhead)

    def visit(self, number: int, client: int, *, first: bool = False) -> Visit:
        """What becomes of a client that round ``number`` asks, drawn from (seed, client, round).

        Times of a class are log-normal about the nominal one, which is their median; a client that
        leaves does so after a uniform share of its visit.
        """
        device = self.device(client)
        rng = np.random.default_rng(derive_seed(self.seed, "fleet-visit", client, number))
        there, leaves, share, tie = rng.random(4)
        factor = math.exp(self.options.spread * rng.standard_normal())
        nominal = self.seconds(device, first=first)
        if gone := bool(leaves < device.dropout):
            factor *= share
        return Visit(
            client=client,
            there=bool(there < device.availability),
            leaves=gone,
            seconds=factor * nominal.total,
            joules=factor * visit_joules(device, nominal),
            tie=float(tie),
        )

    def visits(
        self, number: int, cohort: Sequence[int], lacking: Collection[int] = ()
    ) -> list[Visit]:
        """The visits of a cohort. Those ``lacking`` the teacher take longer, but where the cohort
        is a secret: there the teacher is on every device before the first round."""
        if self.hidden_rate is not None:
            lacking = ()
        return [self.visit(number, client, first=client in lacking) for client in cohort]

    def needed(self, federation: FederationOptions) -> int | None:
        """Replies that end a round; None where all are waited for."""
        if self.options.over_selection == 1:
            return None
        return cohort_size(federation, self.num_clients)

    def account(
        self, number: int, visits: Sequence[Visit], end: RoundEnd, clock_seconds: float
    ) -> dict[str, float]:
        """What a round's record tells of its simulated time, as
        :class:`fedlite.base.records.RoundRecord` describes ``simulated``.

        Args:
            number: of the round.
            visits: of its cohort.
            end: of the round.
            clock_seconds: simulated before it, over all rounds.
        """
        weight = 1.0
        if self.hidden_rate is not None:
            weight = self.hidden_rate
            visits = self.visits(number, range(self.num_clients))
            end = end_round(visits, range(self.num_clients), None, self.options.deadline_s)
        there = [visit for visit in visits if visit.there]
        leaving = sum(visit.leaves for visit in there)
        return {
            "seconds": end.seconds,
            "clock_seconds": clock_seconds + end.seconds,
            "joules": weight * sum(visit.joules for visit in there),
            "asked": weight * len(visits),
            "away": weight * (len(visits) - len(there)),
            "left": weight * leaving,
            "not_counted": weight * (len(there) - leaving - len(end.counted)),
        }
