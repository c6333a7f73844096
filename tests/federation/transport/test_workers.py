"""Workers that die in the middle of a message: what is asked again, what fails, what is lost."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fedlite.base.errors import FedliteError
from fedlite.federation.messages import CONFIG
from fedlite.federation.sealed import FAILED
from fedlite.federation.simulation import SIMULATION, shared_world
from fedlite.federation.transport.grid import FIRST_NODE_ID, InProcessGrid
from fedlite.federation.transport.workers import even_share
from fedlite.runs.config import Config
from fedlite.runs.splits import splits_of
from tests.federation.transport.apps import (
    COUNT,
    TRAIN,
    WEIGH,
    WEIGHT,
    WHERE,
    knowing,
    let_die,
    mortal,
)
from tests.privacy.world import simulation_options

CLIENTS = 3


@pytest.fixture
def make_grid(tmp_path: Path) -> Iterator[Callable[..., InProcessGrid]]:
    """A grid of one worker, which takes the clients in their order, or of more."""
    grids = []

    def make(replay: bool, workers: int = 1) -> InProcessGrid:
        deaths = {"deaths": str(tmp_path)}
        grids.append(InProcessGrid(mortal, CLIENTS, deaths, num_workers=workers, replay=replay))
        return grids[-1]

    yield make
    for grid in grids:
        grid.close()


def ask(grid: InProcessGrid, kind: str, steps: int = 0) -> list[int | str]:
    """How often each client was heard, or the error of its reply; ``steps`` are those of a plan."""
    nodes = [FIRST_NODE_ID + i for i in range(CLIENTS)]
    content = RecordDict({CONFIG: ConfigRecord({"plan.steps": steps})})
    replies = grid.send_and_receive([Message(content, node, kind) for node in nodes])
    assert [reply.metadata.src_node_id for reply in replies] == nodes
    return [
        reply.error.reason
        if reply.has_error()
        else int(str(reply.content.config_records["answer"]["times"]))
        for reply in replies
    ]


def asked(folder: Path) -> list[int]:
    """The clients that were asked since the last call, in order."""
    path = folder / "asked"
    found = list(map(int, path.read_text().split()))
    path.unlink()
    return found


def test_a_charged_round_is_not_repeated_and_only_its_client_fails(
    make_grid: Callable[[bool], InProcessGrid], tmp_path: Path
) -> None:
    grid = make_grid(False)
    let_die(tmp_path, 1, times=1)
    assert ask(grid, TRAIN) == [1, FAILED, 1]
    assert asked(tmp_path) == [0, 1, 2], "asked again, it would charge again"
    assert "died" in grid.failure()
    let_die(tmp_path, 1, times=1)
    assert ask(grid, COUNT) == [2, 1, 2], "the states of all came through, and a query is free"
    assert asked(tmp_path) == [0, 1, 1, 2]
    assert grid.failure() == ""
    for client in range(CLIENTS):
        let_die(tmp_path, client, times=9)
    with pytest.raises(FedliteError, match=r"worker 0 of the in-process engine died") as caught:
        ask(grid, TRAIN)
    assert "\n" not in str(caught.value)
    assert "run.resume=true" in str(caught.value)


def test_where_a_cohort_trains_together_all_of_a_worker_s_call_have_failed(
    make_grid: Callable[..., InProcessGrid], tmp_path: Path
) -> None:
    grid = make_grid(False, workers=2)
    let_die(tmp_path, 1, times=1)
    assert ask(grid, TRAIN, steps=1) == [FAILED, FAILED, 1], "two calls, one a worker"
    assert sorted(asked(tmp_path)) == [0, 1, 2]
    let_die(tmp_path, 1, times=1)
    assert ask(grid, TRAIN, steps=2)[1:] == [FAILED, 2], "steps that no cohort takes together"


def test_a_call_that_is_charged_once_is_repeated_one_by_one(
    make_grid: Callable[..., InProcessGrid], tmp_path: Path
) -> None:
    grid = make_grid(True)
    let_die(tmp_path, 1, times=1)
    assert ask(grid, TRAIN, steps=1) == [1, 1, 1]
    assert asked(tmp_path) == [0, 1, 1, 2]


def test_workers_are_forked_from_one_process_that_has_imported_what_they_need(
    make_grid: Callable[..., InProcessGrid],
) -> None:
    grid, nodes = make_grid(False, workers=2), [FIRST_NODE_ID + i for i in range(CLIENTS)]
    replies = grid.send_and_receive([Message(RecordDict(), node, WHERE) for node in nodes])
    answers = [reply.content.config_records["answer"] for reply in replies]
    assert all(answer["ready"] for answer in answers)
    (parent,) = {answer["parent"] for answer in answers}
    assert parent != os.getpid()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what others take")
def test_a_worker_s_memory_is_what_it_has_alone_and_the_largest_of_its_number(
    make_grid: Callable[..., InProcessGrid], tmp_path: Path
) -> None:
    grid = make_grid(True, workers=2)
    assert ask(grid, COUNT) == [1, 1, 1]
    light = grid.peak_memory()
    assert light.process is not None
    assert light.fork_server is not None
    assert len(light.workers) == 2
    assert 0 < max(light.workers) < light.fork_server / 2, "the imports of all are not their own"
    grid.send_and_receive([Message(RecordDict(), FIRST_NODE_ID, WEIGH)])
    let_die(tmp_path, 0, times=1)
    assert ask(grid, COUNT) == [2, 2, 2]
    heavy = grid.peak_memory()
    assert heavy.workers[0] > WEIGHT, "given back, and its process replaced"
    assert heavy.workers[1] < WEIGHT
    assert (heavy.process or 0) >= light.process


def test_without_workers_memory_is_that_of_this_process(
    make_grid: Callable[..., InProcessGrid],
) -> None:
    grid = make_grid(True, workers=0)
    grid.send_and_receive([Message(RecordDict(), FIRST_NODE_ID, WEIGH)])
    found = grid.peak_memory()
    assert (found.fork_server, found.workers) == (None, [])
    assert found.process is None or found.process > WEIGHT


def test_workers_are_given_the_same_number_of_clients() -> None:
    shares = {n: even_share(n, workers=2, together=32) for n in (1, 2, 3, 50, 64, 65, 100, 129)}
    assert shares == {1: 1, 2: 1, 3: 2, 50: 25, 64: 32, 65: 17, 100: 25, 129: 22}
    assert even_share(50, workers=2, together=1) == 1


def test_a_round_that_is_charged_once_is_repeated_once(
    make_grid: Callable[[bool], InProcessGrid], tmp_path: Path
) -> None:
    grid = make_grid(True)
    let_die(tmp_path, 0, times=1)
    let_die(tmp_path, 2, times=2)
    assert ask(grid, TRAIN) == [1, 1, FAILED]
    assert asked(tmp_path) == [0, 0, 1, 2, 2]


def test_workers_share_the_examples_that_their_run_has_read(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config(f"federation.num_clients={CLIENTS}")
    splits, options = splits_of(config), simulation_options(config, tmp_path)
    let_die(tmp_path, 1, times=1)  # a worker that came later shares them too
    with shared_world(options, splits):
        run_config = {SIMULATION: options.to_json(), "deaths": str(tmp_path)}
        grid = InProcessGrid(knowing, CLIENTS, run_config, num_workers=2, replay=True)
        nodes = [FIRST_NODE_ID + i for i in range(CLIENTS)]
        replies = grid.send_and_receive([Message(RecordDict(), node, TRAIN) for node in nodes])
        grid.close()
    told = [dict(reply.content.config_records["answer"]) for reply in replies]
    sums = [float(splits.client(i).inputs.sum()) for i in range(CLIENTS)]
    assert told == [{"shared": True, "total": total} for total in sums]
