"""Requests out, replies back: matched by the message they answer, in client order."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from flwr.app import Message
from flwr.app.error import Error

from fedlite.base.errors import FedliteError
from fedlite.federation import gather
from fedlite.federation.messages import TRAIN, State, refused_reply, to_arrays, trained_reply
from fedlite.federation.rounds import Federation, run_rounds
from fedlite.federation.transport.grid import FIRST_NODE_ID, InProcessGrid
from tests.federation.scripted import STUDENT, Answer, ScriptedClients, add, federation
from tests.privacy.planted import Plant, caught
from tests.privacy.world import make_plan

Change = Callable[[list[Message]], list[Message]]

SUPERLINK = 1  # the node that Flower's own errors come from


class Postman(InProcessGrid):
    """A grid that hands out replies as ``change`` makes them: a network that is no help."""

    change: Change = staticmethod(lambda replies: replies)
    only: tuple[str, ...] = ("query.teacher", TRAIN)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        batch = list(messages)
        replies = super().send_and_receive(batch, timeout=timeout)
        if batch and batch[0].metadata.message_type in self.only:
            return self.change(replies)
        return replies


def claimed(reply: Message, source: int) -> Message:
    """The reply as if it came from another node."""
    reply.metadata.__dict__["_src_node_id"] = source
    return reply


def from_the_superlink(replies: list[Message]) -> list[Message]:
    return [claimed(reply, SUPERLINK) for reply in replies]


def from_each_other(replies: list[Message]) -> list[Message]:
    """Everybody under another client's name."""
    sources = [reply.metadata.src_node_id for reply in replies]
    pairs = zip(replies, sources[1:] + sources[:1], strict=True)
    return [claimed(reply, source) for reply, source in pairs]


def backwards(replies: list[Message]) -> list[Message]:
    return replies[::-1]


def says(epsilon: float, amount: float) -> Answer:
    """Trained, with an epsilon by which a reply is known."""

    def answer(message: Message, state: State) -> Message:
        moved = to_arrays({name: value + amount for name, value in state.items()})
        return trained_reply(message, moved, epsilon)

    return answer


def refuses(message: Message, state: State) -> Message:
    return refused_reply(message, "budget", 0.75)


ANSWERS = [says(0.1, 1.0), says(0.2, 1e-3), refuses, says(0.4, 1e7)]


def delivered(directory: Path, change: Change, answers: list[Answer] = ANSWERS) -> Federation:
    """Two rounds behind a postman."""
    clients = ScriptedClients(answers)
    grid = Postman(clients.app, len(answers), {})
    grid.change = change  # type: ignore[method-assign]
    made = federation(directory, len(answers), plan=make_plan())
    run_rounds(grid, made, grid)
    assert sorted(clients.teachers_received) == list(range(len(answers)))
    return made


def check_replies_find_their_client(directory: Path, change: Change) -> None:
    """Everything is as behind an honest grid: to the last bit, which follows the order of sums."""
    honest = delivered(directory / "honest", lambda replies: replies)
    try:
        made = delivered(directory / "other", change)
    except (KeyError, FedliteError) as error:
        raise AssertionError("a reply found no client") from error
    assert [record.epsilons for record in made.history] == [[0.1, 0.2, 0.75, 0.4]] * 2, (
        "an epsilon is another client's"
    )
    for record, expected in zip(made.history, honest.history, strict=True):
        assert record.clients_trained == expected.clients_trained == 3
        assert record.refusals == expected.refusals == {"budget": 1}
        assert record.bytes_up == expected.bytes_up
    assert all(torch.equal(made.result[name], value) for name, value in honest.result.items())


@pytest.mark.parametrize(
    "change",
    [
        from_the_superlink,
        from_each_other,
        backwards,
        lambda replies: backwards(from_each_other(replies)),
    ],
    ids=["from the SuperLink", "from each other", "backwards", "both"],
)
def test_a_reply_belongs_to_the_client_whose_message_it_answers(
    change: Change, tmp_path: Path
) -> None:
    check_replies_find_their_client(tmp_path, change)


# --- planted bugs ---------------------------------------------------------------------------


def matched_by_source(patch: pytest.MonkeyPatch) -> None:
    """As it was once: the node that a reply says it comes from."""

    def answers(grid: InProcessGrid, messages: dict[int, Message]) -> dict[int, Message]:
        asked = {message.metadata.dst_node_id: i for i, message in messages.items()}
        replies = grid.send_and_receive(list(messages.values()))
        return {asked[reply.metadata.src_node_id]: reply for reply in replies}

    patch.setattr(gather, "_answers", answers)


def matched_by_place(patch: pytest.MonkeyPatch) -> None:
    """The first reply is taken for the first client's."""

    def answers(grid: InProcessGrid, messages: dict[int, Message]) -> dict[int, Message]:
        replies = grid.send_and_receive(list(messages.values()))
        return dict(zip(messages, replies, strict=False))

    patch.setattr(gather, "_answers", answers)


@pytest.mark.parametrize(
    ("plant", "change", "because"),
    [
        (matched_by_source, from_the_superlink, "found no client"),
        (matched_by_source, from_each_other, "another client's"),
        (matched_by_place, backwards, "another client's"),
    ],
)
def test_planted_bugs_are_caught(
    plant: Plant, change: Change, because: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with caught(because):
        check_replies_find_their_client(tmp_path, change)


# --- what does not come back ----------------------------------------------------------------


def lost_with_an_error(replies: list[Message]) -> list[Message]:
    """The SuperLink's own error takes the place of client 1's reply."""
    kept = []
    for reply in replies:
        if reply.metadata.src_node_id == FIRST_NODE_ID + 1:
            answered = reply.metadata.reply_to_message_id
            reply = Message(Error(4, "node unavailable"), reply_to=reply)
            reply.metadata.__dict__["_reply_to_message_id"] = answered
            claimed(reply, SUPERLINK)
        kept.append(reply)
    return kept


def lost(replies: list[Message]) -> list[Message]:
    return [reply for reply in replies if reply.metadata.src_node_id != FIRST_NODE_ID + 1]


class Unreliable(Postman):
    """Loses train messages, and no other."""

    only = (TRAIN,)


@pytest.mark.parametrize(("change", "failed"), [(lost_with_an_error, 1), (lost, 0)])
def test_a_client_that_cannot_be_reached_is_no_other_client_s_failure(
    change: Change, failed: int, tmp_path: Path
) -> None:
    clients = ScriptedClients([add(1.0), add(100.0), add(3.0)])
    grid = Unreliable(clients.app, 3, {})
    grid.change = change  # type: ignore[method-assign]
    made = federation(tmp_path, 3, plan=make_plan())
    run_rounds(grid, made, grid)
    assert [record.clients_failed for record in made.history] == [failed, failed]
    assert [record.clients_trained for record in made.history] == [2, 2]
    assert [record.epsilons for record in made.history] == [[0.5, 0.0, 0.5]] * 2
    assert torch.equal(made.result["weight"], STUDENT["weight"] + 4)


def test_a_client_whose_teacher_was_lost_is_not_asked_and_counts_as_failed(tmp_path: Path) -> None:
    clients = ScriptedClients([add(1.0), add(100.0), add(3.0)])
    grid = Postman(clients.app, 3, {})
    grid.only = ("query.teacher",)
    grid.change = lost_with_an_error  # type: ignore[method-assign]
    made = federation(tmp_path, 3)
    run_rounds(grid, made, grid)
    assert {client for _, client in clients.asked} == {0, 2}
    assert [record.clients_failed for record in made.history] == [1, 1]


# --- who is there ---------------------------------------------------------------------------


def test_clients_are_known_by_the_id_they_say_and_not_by_their_node(tmp_path: Path) -> None:
    """A client may sit on any node: after a restart, on another one."""
    clients = ScriptedClients([says(0.1, 1.0), says(0.2, 2.0), says(0.4, 4.0)])
    grid = clients.grid()
    for context in grid.contexts.values():
        context.node_config["partition-id"] = 2 - int(str(context.node_config["partition-id"]))
    made = federation(tmp_path, 3, plan=make_plan())
    run_rounds(grid, made, grid)
    assert made.history[-1].epsilons == [0.1, 0.2, 0.4]


def test_too_few_clients_are_waited_for_and_then_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "WAIT_FOR_NODES_SECONDS", 0)
    with pytest.raises(FedliteError, match="only 2 of 3 clients connected"):
        run_rounds(ScriptedClients([add(1.0)] * 2).grid(), federation(tmp_path, 3))


def test_a_client_that_does_not_start_ends_the_run(tmp_path: Path) -> None:
    class Broken(ScriptedClients):
        def _hello(self, *_: object) -> Message:
            raise FedliteError("policy p.yaml: cannot be read")

    with pytest.raises(FedliteError, match=r"^a client did not start: failed$"):
        run_rounds(Broken([add(1.0)]).grid(), federation(tmp_path, 1))


def test_who_is_there_is_known_without_asking_simulated_clients(tmp_path: Path) -> None:
    clients = ScriptedClients([add(1.0)] * 4)
    grid = clients.grid()
    made = federation(tmp_path, 4, "federation.fraction=0.5")
    run_rounds(grid, made, grid)
    assert 0 < len(set(clients.teachers_received)) < 4
    asked = gather.meet_clients(grid, 4)
    assert grid.present() == asked
    assert {client for client, sha256 in asked.teachers.items() if sha256} == set(
        clients.teachers_received
    )
