"""A Flower Grid without a network: the ClientApp is called directly, here or in worker processes.

Every client has one persistent Context. Replies come back in the order of the messages, whatever
the workers' number.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedlite.base.memory import peak_memory_bytes
from fedlite.base.records import PeakMemory
from fedlite.federation.client import number_of
from fedlite.federation.device import COMPUTE, SIMULATED
from fedlite.federation.gather import Clients
from fedlite.federation.messages import TEACHER, TEACHER_RECORD, TRAIN, asks_for_one_private_step
from fedlite.federation.sealed import FAILURE, answers, failure_of
from fedlite.federation.simulation import World, join_worlds, shared_worlds
from fedlite.federation.transport.workers import WorkerPool
from fedlite.federation.workbench import proven_options, take_as_proven

FIRST_NODE_ID = 2  # 1 is the SuperLink's own
SERVER_NODE_ID = 1
MOST_TOGETHER = 32  # clients whose replies are made in one call
NOT_CHECKPOINTED = ("reply-arrays", "reply-report", FAILURE)


def _begin_worker(worlds: list[World], proven: frozenset[str]) -> None:
    """Let a worker's clients have what its parent has read, and has proven of their networks."""
    join_worlds(worlds)
    take_as_proven(proven)


class InProcessGrid(Grid):
    """Calls ``client_app`` for every message; ``num_workers`` of 0 stays in this process.

    Its nodes are simulated clients, and their node configs say so. ``replay``: a train request that
    is answered twice is charged once, so that one whose worker died may be repeated; all else may.
    ``device`` is where their networks compute.
    """

    def __init__(
        self,
        client_app: ClientApp,
        num_clients: int,
        run_config: dict[str, str],
        *,
        num_workers: int = 0,
        replay: bool = False,
        log_file: Path | None = None,
        run_id: int = 1,
        device: str = "cpu",
    ) -> None:
        TaskIdentity.run_id, TaskIdentity.task_id = run_id, run_id
        TaskIdentity.node_id = SERVER_NODE_ID
        self._client_app = client_app
        self._replay = replay
        self._run = Run.create_empty(run_id)

        def repeatable(message: Message) -> bool:
            return replay or message.metadata.message_type != TRAIN

        self._pool: WorkerPool | None = None
        if num_workers:
            prepare = partial(_begin_worker, shared_worlds(), proven_options())
            self._pool = WorkerPool(client_app, num_workers, log_file, repeatable, prepare)
        self._message_count = 0
        self._replies: dict[str, Message] = {}
        self.contexts = {
            FIRST_NODE_ID + client_id: Context(
                run_id=run_id,
                node_id=FIRST_NODE_ID + client_id,
                node_config={
                    "partition-id": client_id,
                    "num-partitions": num_clients,
                    SIMULATED: True,
                    COMPUTE: device,
                },
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for client_id in range(num_clients)
        }
        self._dumped: dict[int, bytes] = {}  # what clients kept when they were last dumped
        self._asked = set(self.contexts)  # those who may keep something else by now

    def close(self) -> None:
        """Stop the workers."""
        if self._pool is not None:
            self._pool.close()

    def set_run(self, run: Run) -> None:
        """Set the run this grid works for."""
        self._run = run

    @property
    def run(self) -> Run:
        """Run information."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message from the server to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """All simulated nodes, in client order."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Run the messages and keep their replies for :meth:`pull_messages`."""
        replies = self.send_and_receive(messages)
        self._replies |= {reply.metadata.reply_to_message_id: reply for reply in replies}
        return [reply.metadata.reply_to_message_id for reply in replies]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Hand out kept replies once."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Run every message on its client and return the replies in the same order."""
        batch = list(messages)
        for message in batch:
            self._message_count += 1
            message.metadata.__dict__["_message_id"] = f"message-{self._message_count}"
        contexts = [self.contexts[message.metadata.dst_node_id] for message in batch]
        self._asked.update(context.node_id for context in contexts)
        together = MOST_TOGETHER if self._pool is None or self._joint(batch) else 1
        work = list(zip(batch, contexts, strict=True))
        if self._pool is None:
            calls = (work[i : i + together] for i in range(0, len(work), together))
            return [reply for call in calls for reply in answers(self._client_app, call)]
        results = self._pool.map(work, together)
        for context, (_, state) in zip(contexts, results, strict=True):
            context.state = state
        return [reply for reply, _ in results]

    def present(self) -> Clients:
        """All clients and the teachers that they keep, without asking each of them."""
        found = Clients(node_ids={}, teachers={})
        for node_id, context in self.contexts.items():
            client_id = number_of(context.node_config)
            held = context.state.config_records.get(TEACHER_RECORD)
            found.node_ids[client_id] = node_id
            found.teachers[client_id] = str(held["sha256"]) if held else ""
        return found

    def _joint(self, batch: list[Message]) -> bool:
        """Whether a worker, whose death costs all clients that answer in one call, is given several
        at once: to take a teacher, and where they train in one step."""
        if all(message.metadata.message_type == TEACHER for message in batch):
            return True
        return not self._replay and all(map(asks_for_one_private_step, batch))

    def failure(self) -> str:
        """Why the first client failed whose last message did, for the owner of the simulation: no
        reply holds it. "" if none did."""
        return next(filter(None, map(failure_of, self.contexts.values())), "")

    def peak_memory(self) -> PeakMemory:
        """What this process and the workers have had at most."""
        return PeakMemory(peak_memory_bytes()) if self._pool is None else self._pool.peak_memory()

    def dump_contexts(self) -> dict[int, bytes]:
        """What clients keep, by node id, for a checkpoint: without their last replies, and without
        those who keep nothing. Only who was asked since the last dump is looked at."""
        for node_id in self._asked:
            state = self.contexts[node_id].state
            kept = {name: one for name, one in state.items() if name not in NOT_CHECKPOINTED}
            self._dumped.pop(node_id, None)
            if kept:
                raw = recorddict_to_proto(RecordDict(kept)).SerializeToString(deterministic=True)
                self._dumped[node_id] = raw
        self._asked.clear()
        return dict(self._dumped)

    def restore_contexts(self, dumped: dict[int, bytes]) -> None:
        """Put back the states that :meth:`dump_contexts` took; the others are empty again."""
        self._asked = set(self.contexts)
        for node_id, context in self.contexts.items():
            raw = dumped.get(node_id, b"")
            context.state = recorddict_from_proto(RecordDictProto.FromString(raw))
