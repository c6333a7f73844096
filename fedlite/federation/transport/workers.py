"""Worker processes for the in-process engine: spawned once, fed over pipes, gone with their parent.

A worker ends when its pipe closes, when its parent dies (watched by a thread, so that even
``kill -9`` of the parent leaves nothing behind), or when it is told to.
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict

from fedlite.base.errors import FedliteError
from fedlite.base.logs import route_logs

CLOSE_SECONDS = 5

Work = tuple[Message, Context]
Result = tuple[Message, RecordDict]


class WorkerPool:
    """``count`` processes that run the ClientApp; client i always runs in worker i mod count."""

    def __init__(self, count: int, log_file: Path | None) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(theirs, log_file), daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)

    def map(self, work: list[Work]) -> list[Result]:
        """Run all items; results in the order of ``work``.

        Raises:
            FedliteError: a worker died (out of memory, killed).
        """
        queues: list[list[int]] = [[] for _ in self._connections]
        for index, (_, context) in enumerate(work):
            worker = int(context.node_config["partition-id"]) % len(queues)
            queues[worker].append(index)
        results: dict[int, Result] = {}
        for worker in range(len(queues)):
            self._send_next(worker, queues, work)
        while len(results) < len(work):
            for ready in wait(self._connections):
                assert isinstance(ready, Connection)
                worker = self._connections.index(ready)
                try:
                    index, result = ready.recv()
                except (EOFError, ConnectionError) as error:
                    raise _died(worker) from error
                results[index] = result
                self._send_next(worker, queues, work)
        return [results[index] for index in range(len(work))]

    def _send_next(self, worker: int, queues: list[list[int]], work: list[Work]) -> None:
        if queues[worker]:
            index = queues[worker].pop(0)
            try:
                self._connections[worker].send((index, work[index]))
            except ConnectionError as error:
                raise _died(worker) from error

    def close(self) -> None:
        """Close the pipes, which ends the workers; one that hangs is stopped."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(CLOSE_SECONDS)
            if process.is_alive():
                process.terminate()
                process.join()


def _died(worker: int) -> FedliteError:
    return FedliteError(
        f"worker {worker} of the in-process engine died (out of memory?);"
        " resume with run.resume=true, with fewer engine.num_workers"
    )


def _serve(connection: Connection, log_file: Path | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_die_with_parent, daemon=True).start()
    route_logs(log_file)
    from fedlite.federation.client_app import app

    while True:
        try:
            index, (message, context) = connection.recv()
        except EOFError:
            return
        reply = app(message, context)
        connection.send((index, (reply, context.state)))


def _die_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)
