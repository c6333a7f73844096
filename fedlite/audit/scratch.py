"""A scratch federation: the run's own two apps on invented examples, in ledgers of the audit's own.

Requests are Flower messages with the run's plan; the real ``train`` handler answers them (policy,
ledger, sampling, loss, engine, noise, seal), and the real rounds release what comes of it. The
audit sees what the server sees and touches neither client data nor a ledger of the run.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from flwr.app import Message
from numpy.typing import NDArray
from torch import Tensor

from fedlite.audit.audited import Audited, AuditedRun
from fedlite.base.errors import FedliteError
from fedlite.base.records import Evaluation, RoundRecord
from fedlite.data.options import PartitionOptions
from fedlite.data.splits import Splits
from fedlite.data.types import Normalise, PublicData, Task, TestData
from fedlite.distill.options import LossOptions
from fedlite.federation import client_app
from fedlite.federation.client_options import CLIENT_OPTIONS, ClientOptions
from fedlite.federation.ledgers import divide, hold_ledgers
from fedlite.federation.messages import ARRAYS, TRAIN, State, to_state
from fedlite.federation.options import FederationOptions
from fedlite.federation.plans import Plans
from fedlite.federation.rounds import Federation, run_rounds
from fedlite.federation.server_app import open_server_ledger
from fedlite.federation.simulation import SIMULATION, SimulationOptions, shared_world
from fedlite.federation.transport.grid import FIRST_NODE_ID, InProcessGrid
from fedlite.models.build import frozen_names
from fedlite.models.options import ModelOptions, ScaledModelOptions
from fedlite.privacy.options import PrivacyOptions

AS_THEY_ARE = Normalise(scale=1.0, mean=(0.0,), std=(1.0,))


@dataclass(frozen=True)
class Networks:
    """What is trained, as a server sends it: options of the networks, and where each starts."""

    task: Task
    teacher: ScaledModelOptions
    student: ModelOptions
    loss: LossOptions
    teacher_state: State
    student_state: State
    frozen: frozenset[str] = frozenset()
    class_weights: tuple[float, ...] = ()

    @classmethod
    def of(cls, audited: AuditedRun) -> Self:
        """The run's own."""
        config, student, teacher = audited.config, audited.student, audited.teacher
        return cls(
            task=audited.splits.task,
            teacher=config.teacher,
            student=config.student,
            loss=config.distill,
            teacher_state=dict(teacher.state_dict()),
            student_state={name: value.clone() for name, value in student.state_dict().items()},
            frozen=frozen_names(student),
            class_weights=audited.class_weights,
        )


@dataclass(frozen=True)
class Examples:
    """Invented examples: ``inputs`` (n, ...) as the model sees them, ``labels`` (n,), and
    ``owners`` (n,), which of ``num_clients`` holds each."""

    inputs: Tensor
    labels: Tensor
    owners: NDArray[np.int64]
    num_clients: int


@dataclass(frozen=True)
class Round:
    """What the server saw of one round, as states: the student that it sent, the cohort's replies
    by client id, and the next student; ``clip`` is that of the round (client level)."""

    start: State
    replies: dict[int, State]
    result: State
    clip: float | None


@dataclass(frozen=True)
class Scratch:
    """A federation to run.

    Args:
        config: of the run.
        networks: what is trained.
        examples: who holds what.
        plans: what requests carry and releases follow.
        privacy: the run's, with the unit that is audited; a policy file of the run is left out.
        federation: the run's, with rounds; clients are those of ``examples``.
        directory: where clients keep the teacher; removed by the caller. Ledgers and checkpoint
            lie in a folder of their own there, which goes with the run.
        name: of this federation; draws of a deterministic run follow from it.
        seed: of draws that are not secret.
    """

    config: Audited
    networks: Networks
    examples: Examples
    plans: Plans
    privacy: PrivacyOptions
    federation: FederationOptions
    directory: Path
    name: str
    seed: int

    @property
    def num_clients(self) -> int:
        """Clients of this federation."""
        return self.examples.num_clients

    def run(self, on_round: Callable[[Round], None] = lambda seen: None) -> Federation:
        """Run all rounds and hand each to ``on_round``.

        Raises:
            FedliteError: a client failed or refused: it would not have in the run.
        """
        with tempfile.TemporaryDirectory(dir=self.directory) as folder:
            simulation, splits = self._simulation(Path(folder)), self._splits()
            division = divide(splits, self.privacy, simulation.dataset.name)
            with shared_world(simulation, splits), hold_ledgers(simulation, division):
                grid = _Watched(self.num_clients, self._run_config(simulation), self.config.device)
                federation = self._federation(grid, Path(folder), on_round)
                run_rounds(grid, federation)
        if federation.stopped:
            raise FedliteError(f"audit: the rounds ended {federation.stopped}")
        return federation

    def _federation(
        self, grid: "_Watched", folder: Path, on_round: Callable[[Round], None]
    ) -> Federation:
        config, networks, plans = self.config, self.networks, self.plans
        students = [networks.student_state]

        def evaluate(state: State) -> Evaluation:
            students.append(state)
            return Evaluation(0.0, 0.0, 0.0)

        def watch(record: RoundRecord) -> None:
            if record.clients_failed or record.clients_refused:
                reason = next(iter(record.refusals), grid.failure() or "it failed; see the log")
                raise FedliteError(
                    f"audit: a client did not train in round {record.round}: {reason}"
                )
            start, result = students.pop(0), students[0]
            on_round(Round(start, grid.take(), result, record.clip))

        return Federation(
            options=replace(self.federation, num_clients=self.num_clients),
            seed=self.seed,
            run_id=f"audit-{self.name}",
            num_clients=self.num_clients,
            plan=plans.example,
            client_plan=plans.client,
            server_ledger=open_server_ledger(folder, config.dataset.name),
            student=networks.student_state,
            teacher=networks.teacher_state,
            evaluate=evaluate,
            on_round=watch,
            checkpoint_path=folder / "checkpoint.pt",
            secret_cohort=plans.client is not None and self.privacy.randomness == "secure",
            quiet=self.privacy.trust == "aggregate",
            frozen=networks.frozen,
        )

    def _simulation(self, folder: Path) -> SimulationOptions:
        return SimulationOptions(
            dataset=self.config.dataset,
            partition=PartitionOptions("iid"),
            privacy=self.privacy,
            num_clients=self.num_clients,
            seed=self.seed,
            folder=str(self.directory / "nodes"),
            ledger_dir=str(folder),
        )

    def _splits(self) -> Splits:
        examples, nobody = self.examples, self.examples.inputs[:0]
        labels = examples.labels[:0]
        task = self.networks.task
        return Splits(
            task=task if task.vocabulary else replace(task, preprocessing=AS_THEY_ARE),
            public=PublicData(nobody, labels),
            public_validation=PublicData(nobody, labels),
            test=TestData(nobody, labels),
            _inputs=examples.inputs,
            _labels=examples.labels,
            _rows=tuple(np.flatnonzero(examples.owners == i) for i in range(self.num_clients)),
        )

    def _run_config(self, simulation: SimulationOptions) -> dict[str, str]:
        networks = self.networks
        client = ClientOptions.of_run(
            networks.task,
            networks.teacher,
            networks.student,
            networks.loss,
            self.privacy,
            self.federation,
            self.seed,
            networks.class_weights,
        )
        return {CLIENT_OPTIONS: client.to_json(), SIMULATION: simulation.to_json()}


class _Watched(InProcessGrid):
    """The grid of the real ClientApp, which keeps the last round's replies as the server does."""

    def __init__(self, num_clients: int, run_config: dict[str, str], device: str) -> None:
        super().__init__(client_app.app, num_clients, run_config, device=device)
        self._students: dict[int, State] = {}

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """As in a run."""
        batch = list(messages)
        replies = super().send_and_receive(batch, timeout=timeout)
        for message, reply in zip(batch, replies, strict=True):
            trained = reply.has_content() and ARRAYS in reply.content.array_records
            if message.metadata.message_type == TRAIN and trained:
                client = message.metadata.dst_node_id - FIRST_NODE_ID
                self._students[client] = to_state(reply.content.array_records[ARRAYS])
        return replies

    def take(self) -> dict[int, State]:
        """The students that came back since the last call, by client id."""
        students, self._students = self._students, {}
        return students


@contextmanager
def quiet_flower() -> Iterator[None]:
    """Flower logs two lines a round, which the rounds of many models would bury the log in."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def flattened(state: State, names: Iterable[str]) -> Tensor:
    """The arrays of these names as one vector (d,), in float64."""
    return torch.cat([state[name].double().flatten() for name in names])
