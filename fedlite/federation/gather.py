"""What goes out and comes back in one round: requests to clients, checked replies in client order.

Clients are known by their own ids; which node stands for which is learnt once, when they are met.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedlite.base.errors import FedliteError
from fedlite.federation.messages import (
    ARRAYS,
    CONFIG,
    HELLO,
    TEACHER,
    State,
    check_reply,
    count_bytes,
    to_arrays,
)

log = logging.getLogger(__name__)

WAIT_FOR_NODES_SECONDS = 600

Check = Callable[[Message], None]
"""Refuses a trained reply whose content is not as it must be, by raising a FedliteError."""


@dataclass
class Clients:
    """Who is there: node ids by client id, and which teacher each client holds."""

    node_ids: dict[int, int]
    teachers: dict[int, str]


@dataclass
class Gathered:
    """The replies of one round, sorted: ``trained`` and ``epsilons`` by client, in their order.

    ``bytes_down`` counts the requests, ``teacher_bytes`` what carried the teacher before them.
    """

    trained: dict[int, Message] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    epsilons: dict[int, float] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0
    teacher_bytes: int = 0


def meet_clients(grid: Grid, num_clients: int) -> Clients:
    """Ask every node who it is.

    Raises:
        FedliteError: too few nodes connected in time, or a client did not start.
    """
    deadline = time.monotonic() + WAIT_FOR_NODES_SECONDS
    while len(node_ids := sorted(grid.get_node_ids())) < num_clients:
        if time.monotonic() > deadline:
            raise FedliteError(f"only {len(node_ids)} of {num_clients} clients connected")
        time.sleep(0.1)
    clients = Clients(node_ids={}, teachers={})
    for reply in grid.send_and_receive([Message(RecordDict(), i, HELLO) for i in node_ids]):
        if reply.has_error():
            raise FedliteError(f"a client did not start: {reply.error.reason}")
        answer = reply.content.config_records[CONFIG]
        client_id = cast(int, answer["client-id"])
        clients.node_ids[client_id] = reply.metadata.src_node_id
        clients.teachers[client_id] = cast(str, answer.get("teacher-sha256", ""))
    return clients


def lacking_teacher(clients: Clients, cohort: list[int], sha256: str) -> list[int]:
    """Those of the cohort that do not hold the teacher of this hash."""
    return [client_id for client_id in cohort if clients.teachers[client_id] != sha256]


def send_teacher(
    grid: Grid, clients: Clients, cohort: list[int], teacher: State, sha256: str
) -> tuple[int, dict[int, str]]:
    """Send the teacher to those of the cohort that lack it.

    Returns:
        the bytes sent, and by client id why a client could not take it.
    """
    lacking = lacking_teacher(clients, cohort, sha256)
    if not lacking:
        return 0, {}
    content = RecordDict({ARRAYS: to_arrays(teacher), CONFIG: ConfigRecord({"sha256": sha256})})
    messages = {i: Message(content, clients.node_ids[i], TEACHER) for i in lacking}
    failed: dict[int, str] = {}
    for client_id, reply in _answers(grid, messages).items():
        if reply.has_error():
            failed[client_id] = f"client {client_id}: {reply.error.reason}"
            log.warning("client %d could not take the teacher: %s", client_id, reply.error.reason)
        else:
            clients.teachers[client_id] = sha256
    return count_bytes(messages.values()), failed


def gather(
    grid: Grid, requests: Mapping[int, Message], check: Check, *, quiet: bool = False
) -> Gathered:
    """Send train requests, by client id, and sort what comes back (rule 16).

    A reply that does not pass the checks, and a client that raised, count as failures; a refusal is
    a normal reply. What does not come back counts as neither.

    Args:
        check: of the arrays of a trained reply.
        quiet: keeps what is wrong with a single reply's arrays out of log and report (rule 18).
    """
    replies = _answers(grid, requests)
    found = Gathered(
        bytes_down=count_bytes(requests.values()),
        bytes_up=count_bytes(replies.values()),
    )
    for client_id, reply in sorted(replies.items()):
        if reply.has_error():
            found.failures.append(f"client {client_id}: {reply.error.reason}")
            continue
        try:
            report = check_reply(reply.content)
            found.epsilons[client_id] = cast(float, report["epsilon"])
            if report["status"] == "trained":
                check(reply)
        except FedliteError as error:
            reason = "the reply did not pass the checks" if quiet else str(error)
            log.warning("client %d rejected: %s", client_id, reason)
            found.failures.append(f"client {client_id}: {reason}")
            continue
        if report["status"] == "refused":
            log.info("client %d refused: %s", client_id, report["reason"])
            found.refusals[str(report["reason"])] += 1
            continue
        found.trained[client_id] = reply
    return found


def _answers(grid: Grid, messages: Mapping[int, Message]) -> dict[int, Message]:
    """The replies by client id. They are matched by the message they answer and not by their
    source: errors that Flower's SuperLink makes itself come from its own node."""
    replies = list(grid.send_and_receive(list(messages.values())))
    asked = {message.metadata.message_id: i for i, message in messages.items()}
    return {asked[reply.metadata.reply_to_message_id]: reply for reply in replies}
