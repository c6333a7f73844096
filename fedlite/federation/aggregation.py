"""From the checked replies of a round to what it releases, by unit of privacy and trust.

What is released enters Flower's strategy as one reply of weight 1: whatever the strategy then does
with it (momentum, Adam) is post-processing.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from flwr.app import Message, MetricRecord, RecordDict

from fedlite.federation.messages import ARRAYS, METRICS, TRAIN, WEIGHT, State, to_arrays, to_state
from fedlite.privacy import ClientPlan, Randomness
from fedlite.privacy.client_level import release_average

SERVER = 1  # Flower's node id of the server


class SumProtocol(Protocol):
    """How the server learns the sum of a cohort's students, and no single one.

    The seam for secure aggregation: an implementation that speaks a cryptographic protocol with the
    clients takes the place of :class:`PlainSum` (rule 18). It must bind what it masks to a hash of
    the request, or a server could send clients different ones (docs/device-policy.md), and it
    must check ranges itself: masked replies do not pass the server's checks of single arrays.
    """

    def total(self, replies: Sequence[Message]) -> State:
        """The sum of the replies' arrays (float64), of at least one reply."""


class PlainSum:
    """The server adds up what it received. That it keeps nothing else is an assumption."""

    def total(self, replies: Sequence[Message]) -> State:
        """The sum of the replies' arrays (float64)."""
        summed: State = {}
        for reply in replies:
            for name, value in to_state(reply.content.array_records[ARRAYS]).items():
                summed[name] = summed[name] + value if name in summed else value.double()
        return summed


def combine_sum(replies: Sequence[Message], protocol: SumProtocol, like: State) -> State:
    """The cohort's average student, computed from the sum alone (aggregate trust)."""
    summed = protocol.total(replies)
    mean = {name: summed[name] / len(replies) for name in like}
    return {name: mean[name].to(value.dtype) for name, value in like.items()}


def combine_clipped(
    replies: Sequence[Message], plan: ClientPlan, state: State, clip: float, randomness: Randomness
) -> tuple[State, float]:
    """``state`` moved by the clipped, averaged and noised updates; the clip of the next round.

    Only the arrays in ``state`` are clipped, moved and noised. A round without replies still
    releases noise (rule 14).
    """
    students = [to_state(reply.content.array_records[ARRAYS]) for reply in replies]
    updates = [{name: student[name] - state[name] for name in state} for student in students]
    release = release_average(updates, state, plan, clip, randomness)
    with torch.no_grad():
        moved = {name: value + release.average[name] for name, value in state.items()}
    return moved, release.clip


def as_reply(state: State) -> Message:
    """A released student as the one reply of a round, of weight 1, for Flower's strategies."""
    content = RecordDict({ARRAYS: to_arrays(state), METRICS: MetricRecord({WEIGHT: 1})})
    return Message(content, SERVER, TRAIN)
