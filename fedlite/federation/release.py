"""What a round releases of its checked replies, by unit of privacy and trust.

What is released enters Flower's strategy as replies of weight 1: whatever the strategy then does
with them (momentum, Adam) is post-processing.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from flwr.app import Message, MetricRecord, RecordDict

from fedlite.federation.messages import (
    ARRAYS,
    METRICS,
    TRAIN,
    WEIGHT,
    State,
    arrays_in,
    to_arrays,
    to_state,
)
from fedlite.federation.sum_protocol import SumProtocol
from fedlite.privacy.client_level import ClientPlan, release_average
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import Randomness

log = logging.getLogger(__name__)

SERVER = 1  # Flower's node id of the server


@dataclass(frozen=True)
class Released:
    """What may go into the next student, and the clip of the next round (client level).

    ``complete`` is False where too few clients answered for the sum to be private.
    """

    replies: list[Message]
    clip: float | None = None
    complete: bool = True


def release(
    trained: list[Message],
    state: State,
    *,
    plan: PrivacyPlan | None,
    client_plan: ClientPlan | None,
    clip: float | None,
    frozen: frozenset[str],
    protocol: SumProtocol,
    randomness: Randomness,
) -> Released:
    """One of three: every reply, the sum of all, or clipped and noised updates.

    Args:
        trained: checked replies in client order.
        state: the round's student.
        plan: of the example level, whose trust says who may see single replies.
        client_plan: of the client level, with the ``clip`` of this round and ``randomness``.
        frozen: arrays that nobody trains: they stay as they are.
        protocol: adds up the replies.
    """
    if client_plan is not None:
        norm = client_plan.clip if clip is None else clip
        return release_noised(trained, state, client_plan, norm, frozen, randomness)
    if plan is not None and plan.trust == "aggregate":
        return release_sum(trained, state, plan.min_cohort, protocol)
    return Released(trained)


def release_sum(
    trained: list[Message], state: State, min_cohort: int, protocol: SumProtocol
) -> Released:
    """The cohort's average student as one reply, from the sum alone (aggregate trust).

    Nothing where fewer answered than the noise is made for (rule 19).
    """
    if len(trained) < min_cohort:
        log.warning(
            "not released: %d clients answered, the noise is made for %d or more",
            len(trained),
            min_cohort,
        )
        return Released([], complete=False)
    summed = protocol.total(trained)
    mean = {name: summed[name] / len(trained) for name in state}
    average = {name: mean[name].to(value.dtype) for name, value in state.items()}
    return Released([as_reply(average)])


def release_noised(
    trained: Sequence[Message],
    state: State,
    plan: ClientPlan,
    clip: float,
    frozen: frozenset[str],
    randomness: Randomness,
) -> Released:
    """``state`` moved by the clipped, averaged and noised updates, as one reply (client level).

    Only arrays that are trained are clipped, moved and noised. A round without replies still
    releases noise (rule 14).
    """
    moving = {name: value for name, value in state.items() if name not in frozen}
    students = [to_state(arrays_in(reply.content)) for reply in trained]
    updates = [{name: student[name] - moving[name] for name in moving} for student in students]
    found = release_average(updates, moving, plan, clip, randomness)
    with torch.no_grad():
        moved = {name: value + found.average[name] for name, value in moving.items()}
    return Released([as_reply({**state, **moved})], found.clip)


def as_reply(state: State) -> Message:
    """A released student as the one reply of a round, of weight 1, for Flower's strategies."""
    content = RecordDict({ARRAYS: to_arrays(state), METRICS: MetricRecord({WEIGHT: 1})})
    return Message(content, SERVER, TRAIN)
