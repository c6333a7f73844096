"""The in-process grid: order, errors, contexts, and workers that never outlive their parent."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedlite.federation.client_app import app as real_app
from fedlite.federation.messages import ARRAYS, HELLO, TRAIN, to_state
from fedlite.federation.sealed import FAILED
from fedlite.federation.transport.grid import FIRST_NODE_ID, InProcessGrid
from fedlite.runs.config import Config
from tests.privacy.world import ClientWorld

DEADLINE_SECONDS = 60

counting_app = ClientApp()


@counting_app.query("count")
def count(message: Message, context: Context) -> Message:
    """Count the calls of this client in its context; client 1 cannot stand the third."""
    seen = context.state.config_records.get("seen", ConfigRecord({"times": 0}))
    times = int(str(seen["times"])) + 1
    client = int(context.node_config["partition-id"])
    if (client, times) == (1, 3):
        raise ValueError("no more")
    context.state["seen"] = ConfigRecord({"times": times})
    answer = ConfigRecord({"client": client, "times": times})
    return Message(RecordDict({"answer": answer}), reply_to=message)


def ask(grid: InProcessGrid, *clients: int) -> list[tuple[int, int] | str]:
    """(client, how often it was asked) of every reply, or its error."""
    messages = [Message(RecordDict(), FIRST_NODE_ID + i, "query.count") for i in clients]
    found: list[tuple[int, int] | str] = []
    for reply in grid.send_and_receive(messages):
        if reply.has_error():
            found.append(reply.error.reason)
        else:
            answer = reply.content.config_records["answer"]
            found.append((int(str(answer["client"])), int(str(answer["times"]))))
    return found


def test_replies_come_in_the_order_of_the_messages_and_contexts_persist() -> None:
    grid = InProcessGrid(counting_app, 3, {})
    assert grid.get_node_ids() == [2, 3, 4]
    assert ask(grid, 2, 0, 1) == [(2, 1), (0, 1), (1, 1)]
    assert ask(grid, 1, 2) == [(1, 2), (2, 2)]


def test_replies_name_sender_and_request() -> None:
    grid = InProcessGrid(counting_app, 2, {})
    messages = [Message(RecordDict(), node, "query.count") for node in (3, 2)]
    replies = grid.send_and_receive(messages)
    assert [reply.metadata.src_node_id for reply in replies] == [3, 2]
    sent = [message.metadata.message_id for message in messages]
    assert [reply.metadata.reply_to_message_id for reply in replies] == sent
    assert len(set(sent)) == 2


def test_a_raising_client_answers_with_one_word_and_its_owner_learns_more() -> None:
    grid = InProcessGrid(counting_app, 2, {})
    ask(grid, 0, 1)
    ask(grid, 0, 1)
    assert ask(grid, 0, 1, 0) == [(0, 3), FAILED, (0, 4)]
    assert grid.failure() == "ValueError"


def test_a_keyboard_interrupt_is_no_client_s_error() -> None:
    app = ClientApp()

    @app.query("count")
    def interrupted(message: Message, context: Context) -> Message:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(InProcessGrid(app, 1, {}), 0)


def test_pushed_messages_are_pulled_once() -> None:
    grid = InProcessGrid(counting_app, 2, {})
    ids = list(grid.push_messages([Message(RecordDict(), n, "query.count") for n in (2, 3)]))
    assert [reply.metadata.src_node_id for reply in grid.pull_messages(ids)] == [2, 3]
    assert list(grid.pull_messages(ids)) == []


def test_dumped_contexts_are_restored_in_another_grid() -> None:
    grid = InProcessGrid(counting_app, 3, {})
    ask(grid, 0, 1, 1)
    dumped = grid.dump_contexts()
    assert all(isinstance(raw, bytes) for raw in dumped.values())
    other = InProcessGrid(counting_app, 3, {})
    other.restore_contexts(dumped)
    assert ask(other, 0, 2) == [(0, 2), (2, 1)]
    assert ask(other, 1) == [FAILED]
    assert ask(grid, 0) == [(0, 2)], "a dump is a copy"


def test_a_dump_leaves_out_the_last_reply(client_world: Callable[..., ClientWorld]) -> None:
    world = client_world()
    before = sum(map(len, world.grid.dump_contexts().values()))
    world.train(1)
    assert "reply-arrays" in world.grid.contexts[FIRST_NODE_ID].state
    assert sum(map(len, world.grid.dump_contexts().values())) == before


@pytest.fixture
def client_world(tiny_config: Callable[..., Config], tmp_path: Path) -> Callable[..., ClientWorld]:
    """Real clients on digits, in deterministic mode."""

    def build(*overrides: str) -> ClientWorld:
        options = ("privacy.randomness=deterministic", "student=mlp", *overrides)
        return ClientWorld(tiny_config(*options), tmp_path)

    return build


@pytest.fixture
def worker_grid(
    client_world: Callable[..., ClientWorld],
) -> Iterator[tuple[ClientWorld, InProcessGrid]]:
    """Real clients, and a second grid with two workers over the same directories."""
    world = client_world()
    run_config = {k: str(v) for k, v in world.grid.contexts[FIRST_NODE_ID].run_config.items()}
    grid = InProcessGrid(real_app, world.splits.num_clients, run_config, num_workers=2)
    try:
        yield world, grid
    finally:
        grid.close()


def test_workers_change_no_bit_and_end_with_the_grid(
    worker_grid: tuple[ClientWorld, InProcessGrid],
) -> None:
    world, grid = worker_grid
    workers = active_children()
    assert len(workers) == 2
    clients = range(world.splits.num_clients)
    for server_round in (1, 2):
        here = world.grid.send_and_receive([world.request(server_round, i) for i in clients])
        there = grid.send_and_receive([world.request(server_round, i) for i in clients])
        for one, other in zip(here, there, strict=True):
            assert not other.has_error(), other.error.reason
            assert one.metadata.src_node_id == other.metadata.src_node_id
            assert one.content.config_records == other.content.config_records
            left, right = (to_state(m.content.array_records[ARRAYS]) for m in (one, other))
            assert all(torch.equal(right[name], value) for name, value in left.items())
            assert other.metadata.message_type == TRAIN
    for node_id, context in grid.contexts.items():
        assert "reply-report" in context.state, f"node {node_id}: its state came back"
    grid.close()
    assert active_children() == []


def test_workers_train_their_clients_together_where_noise_is_secret(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world("privacy.randomness=secure")
    run_config = {k: str(v) for k, v in world.grid.contexts[FIRST_NODE_ID].run_config.items()}
    grid = InProcessGrid(real_app, world.splits.num_clients, run_config, num_workers=2)
    for node_id, context in grid.contexts.items():
        context.state = world.grid.contexts[node_id].state
    try:
        for server_round in (1, 2):
            content = world.request(server_round).content
            messages = [Message(content, node, TRAIN) for node in grid.get_node_ids()]
            for client, reply in enumerate(grid.send_and_receive(messages)):
                assert not reply.has_error(), reply.error.reason
                assert reply.metadata.src_node_id == FIRST_NODE_ID + client
                assert reply.content.config_records["report"]["status"] == "trained"
                assert len(world.ledger(client).entries()) == server_round
    finally:
        grid.close()


def test_a_worker_that_died_between_two_rounds_is_replaced(
    worker_grid: tuple[ClientWorld, InProcessGrid],
) -> None:
    _, grid = worker_grid
    victim = active_children()[0]
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(DEADLINE_SECONDS)
    nodes = grid.get_node_ids()
    replies = grid.send_and_receive([Message(RecordDict(), node, HELLO) for node in nodes])
    assert [reply.has_error() for reply in replies] == [False] * len(nodes)
    assert len(active_children()) == 2


PARENT = """
import multiprocessing
from fedlite.federation.client_app import app
from fedlite.federation.transport.grid import InProcessGrid

grid = InProcessGrid(app, 2, {}, num_workers=2)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
input()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_end_when_their_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        ready, _, _ = select.select([parent.stdout], [], [], DEADLINE_SECONDS)
        assert ready, "the workers did not start"
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(alive, workers))
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
