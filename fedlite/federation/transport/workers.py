"""Worker processes for the in-process engine: started once, fed over pipes, gone with their parent.

They are forked from one small process, Python's fork server, which has imported what they need and
does nothing else: torch and Opacus are imported once for all workers, beside what the run does
until its first round, and a worker that replaces another is there at once. No worker is forked from
the run itself, whose threads would be lost in it.

A worker ends when its pipe closes, when its parent dies (watched by a thread, so that even
``kill -9`` of the parent leaves nothing behind), or when it is told to. One that dies is replaced.
"""

import logging
import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from fedlite.base.errors import FedliteError
from fedlite.base.logs import route_logs
from fedlite.base.memory import parent_of, peak_memory_bytes
from fedlite.base.records import PeakMemory
from fedlite.federation.sealed import Work, answers, failed
from fedlite.federation.transport.memory import WorkerPeaks

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5
DEATHS_IN_A_ROW = 3  # of workers, with nothing finished between them, until the work is given up
ATTEMPTS = 2  # at an item whose worker dies
DIED = "its worker process died (out of memory?)"

Result = tuple[Message, RecordDict]


def prepare_workers() -> None:
    """Let the fork server begin its imports; returns at once, and does nothing the second time."""
    if isinstance(_context(), ForkServerContext):
        from multiprocessing.forkserver import ensure_running  # is not there on Windows

        ensure_running()


class WorkerPool:
    """``count`` processes that run ``app``.

    Which client runs where changes no result. A client stays with the worker that had it first,
    where what was made of its examples is warm, until another worker has nothing left to do.

    Each calls ``prepare`` before its first item; it is sent with all that hangs on it, of tensors
    their place in shared memory.

    A worker that dies (out of memory, killed) is replaced. The message it was at may have been
    charged: where ``repeatable`` says that it can be answered again without a second charge, it is;
    else its client has failed, and all others go on.
    """

    def __init__(
        self,
        app: ClientApp,
        count: int,
        log_file: Path | None,
        repeatable: Callable[[Message], bool] = lambda message: False,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._start = partial(_Worker, pickle.dumps(app), log_file, prepare)
        self._repeatable = repeatable
        self._workers = [self._start() for _ in range(count)]
        self._homes: dict[int, int] = {}  # worker by client
        self._peaks = WorkerPeaks()

    def map(self, work: Sequence[Work], together: int = 1) -> list[Result]:
        """Run all items; results in the order of ``work``.

        A worker is given up to ``together`` at once, as many as the others: all of these have
        failed, or are repeated, where it dies.

        Raises:
            FedliteError: workers died one after the other, with nothing finished between.
        """
        clients = [int(context.node_config["partition-id"]) for _, context in work]
        queues = _Queues(clients, self._homes, len(self._workers))
        results: dict[int, Result] = {}
        attempts: Counter[int] = Counter()
        running: dict[int, list[int]] = {}  # items by worker
        deaths = 0
        share = even_share(len(work), len(self._workers), together)
        while len(results) < len(work):
            for number, worker in enumerate(self._workers):
                if number not in running and (items := queues.next(number, share)):
                    running[number] = items
                    worker.send([work[item] for item in items])
            by_pipe = {self._workers[number].pipe: number for number in running}
            for pipe in wait(list(by_pipe)):
                number = by_pipe[pipe]  # type: ignore[index]  # wait() answers what it was given
                items = running.pop(number)
                if (found := self._workers[number].receive()) is not None:
                    results |= zip(items, found, strict=True)
                    deaths = 0
                    continue
                deaths += 1
                if deaths == DEATHS_IN_A_ROW:
                    raise FedliteError(
                        f"worker {number} of the in-process engine died, and {deaths} in a row (out"
                        " of memory?); resume with run.resume=true, with fewer engine.num_workers"
                    )
                at = ", ".join(str(clients[item]) for item in items)
                log.warning("worker %d died at client %s; replaced", number, at)
                self._workers[number].close()
                self._workers[number] = self._start()
                for item in reversed(items):
                    attempts[item] += 1
                    message, context = work[item]
                    if attempts[item] < ATTEMPTS and self._repeatable(message):
                        queues.put_back(item, number)
                    else:
                        results[item] = failed(message, context, DIED), context.state
        self._peaks.look([worker.process_id for worker in self._workers])
        return [results[item] for item in range(len(work))]

    def peak_memory(self) -> PeakMemory:
        """Of this process and of the workers, up to the last :meth:`map`; before :meth:`close`."""
        fork_server = parent_of(self._workers[0].process_id)
        return PeakMemory(
            process=peak_memory_bytes(),
            fork_server=None if fork_server is None else peak_memory_bytes(fork_server),
            workers=self._peaks.found(),
        )

    def close(self) -> None:
        """Close the pipes, which ends the workers; one that hangs is stopped."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.close()


def even_share(items: int, workers: int, together: int) -> int:
    """How many items a worker is given at once: ``together`` at most, and all workers alike."""
    turns = max(1, math.ceil(items / (workers * together)))
    return math.ceil(items / (workers * turns))


class _Queues:
    """Items that wait, by the worker that had their client last; those of new clients by none."""

    def __init__(self, clients: Sequence[int], homes: dict[int, int], count: int) -> None:
        self._clients, self._homes = clients, homes
        self._waiting: list[deque[int]] = [deque() for _ in range(count)]
        self._homeless: deque[int] = deque()
        for item, client in enumerate(clients):
            home = homes.get(client)
            (self._homeless if home is None else self._waiting[home]).append(item)

    def next(self, worker: int, count: int) -> list[int]:
        """Up to ``count`` items for ``worker``; none where none waits."""
        return list(islice(iter(partial(self._next, worker), None), count))

    def _next(self, worker: int) -> int | None:
        """An item for ``worker``: its own, a new client's, or the last of the longest queue."""
        if own := self._waiting[worker]:
            item = own.popleft()
        elif self._homeless:
            item = self._homeless.popleft()
        elif longest := max(self._waiting, key=len):
            item = longest.pop()
        else:
            return None
        self._homes[self._clients[item]] = worker
        return item

    def put_back(self, item: int, worker: int) -> None:
        """Let ``worker`` have an item again, before all others."""
        self._waiting[worker].appendleft(item)


class _Worker:
    """A process, and this side of its pipe."""

    def __init__(
        self, app: bytes, log_file: Path | None, prepare: Callable[[], None] | None
    ) -> None:
        context = _context()
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, app, log_file), daemon=True)
        self._process.start()
        theirs.close()
        self._prepare = prepare

    @property
    def process_id(self) -> int:
        """Of the process, by the system's count."""
        assert self._process.pid is not None  # it was started
        return self._process.pid

    def send(self, items: Sequence[Work]) -> None:
        """Give it items; of one that is dead :meth:`receive` tells."""
        prepare, self._prepare = self._prepare, None
        try:
            self.pipe.send((prepare, items))
        except ConnectionError:
            return

    def receive(self) -> Sequence[Result] | None:
        """What it answers to the items; None where it died."""
        try:
            results: Sequence[Result] = self.pipe.recv()
        except (EOFError, ConnectionError):
            return None
        return results

    def close(self) -> None:
        """End it: by its closed pipe, or where it hangs, by force."""
        self.pipe.close()
        self._process.join(CLOSE_SECONDS)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


def _context() -> ForkServerContext | SpawnContext:
    """How workers are started; one by one where nothing can be forked."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fedlite.federation.transport.preload"])
    return context


def _serve(pipe: Connection, pickled: bytes, log_file: Path | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_die_with_parent, daemon=True).start()
    route_logs(log_file)
    app: ClientApp = pickle.loads(pickled)  # now, for what it imports may have something to log
    while True:
        try:
            prepare, work = pipe.recv()
        except EOFError:
            return
        if prepare is not None:
            prepare()
        pairs = zip(answers(app, work), work, strict=True)
        pipe.send([(reply, context.state) for reply, (_, context) in pairs])


def _die_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)
