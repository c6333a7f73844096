"""A client without a server: real Flower messages to the real ClientApp, on embedded digits."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Message, RecordDict
from torch import Tensor, nn

from fedlite.base.tensors import state_sha256
from fedlite.distill.answers import Answers
from fedlite.distill.loss import TaughtExamples, build_loss
from fedlite.distill.options import DistillOptions
from fedlite.federation.client import Client
from fedlite.federation.client_app import app
from fedlite.federation.client_options import CLIENT_OPTIONS
from fedlite.federation.device import SIMULATED
from fedlite.federation.ledgers import data_set_ids
from fedlite.federation.messages import ARRAYS, CONFIG, TEACHER, TRAIN, TrainRequest, to_arrays
from fedlite.federation.plans import build_plan
from fedlite.federation.simulation import (
    SIMULATION,
    Simulation,
    SimulationOptions,
    open_simulation,
)
from fedlite.federation.transport.grid import FIRST_NODE_ID, InProcessGrid
from fedlite.models.build import build_model
from fedlite.privacy.clipping import Engine
from fedlite.privacy.division import read_division
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.ledger import Ledger
from fedlite.privacy.ledger_file import LedgerFile, create_ledgers
from fedlite.privacy.ledger_folder import STORE, STORE_FILE, client_ledger, store_of
from fedlite.privacy.ledger_store import LedgerStore
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import DeterministicRandomness, Randomness
from fedlite.privacy.steps import train_steps
from fedlite.report.progress import Progress
from fedlite.runs.config import Config
from fedlite.runs.directory import RunDirectory
from fedlite.runs.execute import held_ledgers
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.splits import splits_of
from fedlite.runs.stages import federate
from fedlite.runs.stages.federate import client_options
from fedlite.runs.stages.table import fingerprints


class ClientWorld:
    """All simulated clients of ``config`` behind an in-process grid, teacher already delivered.

    ``node_config`` is what the owner of each device sets, as on a SuperNode's command line.
    ``simulated`` False sends what a server of devices sends: nothing of a simulation.
    """

    def __init__(
        self,
        config: Config,
        directory: Path,
        node_config: Mapping[str, str | int] | None = None,
        *,
        simulated: bool = True,
    ) -> None:
        self.config, self.directory = config, directory
        self.splits = splits_of(config)
        task = self.splits.task
        privacy, federation = config.privacy, config.federation
        self.plan = (
            build_plan(privacy, federation, self.splits.client_sizes())
            if privacy.example_level
            else None
        )
        self.student = build_model(config.student, task, seed=0)
        self.teacher = build_model(config.teacher, task, seed=1)
        self.teacher_sha256 = state_sha256(self.teacher.state_dict())
        run_config = {CLIENT_OPTIONS: client_options(config, task).to_json()}
        if simulated:
            run_config[SIMULATION] = simulation_options(config, directory).to_json()
            with held(config, directory):
                pass
        self.grid = InProcessGrid(app, self.splits.num_clients, run_config)
        for context in self.grid.contexts.values():
            if not simulated:
                del context.node_config[SIMULATED]
            context.node_config.update(node_config or {})
        content = RecordDict(
            {
                ARRAYS: to_arrays(self.teacher.state_dict()),
                CONFIG: ConfigRecord({"sha256": self.teacher_sha256}),
            }
        )
        for node_id in self.grid.get_node_ids():
            (reply,) = self.grid.send_and_receive([Message(content, node_id, TEACHER)])
            assert not reply.has_error(), reply.error.reason

    def request(
        self, server_round: int, client_id: int = 0, run: str = "run-a", **changes: object
    ) -> Message:
        """A train message; ``changes`` replace fields of the plan."""
        plan = replace(self.plan, **changes) if self.plan and changes else self.plan
        config = TrainRequest.config(run, self.teacher_sha256, plan)
        config["server-round"] = server_round
        content = RecordDict({ARRAYS: to_arrays(self.student.state_dict()), CONFIG: config})
        return Message(content, FIRST_NODE_ID + client_id, TRAIN)

    def train(self, server_round: int, client_id: int = 0, **options: object) -> Message:
        """Send a train message and return the reply."""
        (reply,) = self.grid.send_and_receive([self.request(server_round, client_id, **options)])
        assert not reply.has_error(), reply.error.reason
        return reply

    def ledger(self, client_id: int = 0) -> Ledger:
        """The ledger of a client without rules of its own."""
        return ledger_of(self.directory / "ledgers", self.config, client_id)

    def client(self, client_id: int = 0) -> Client:
        """What answers for a client, as the client app sees it."""
        return Client.of(self.grid.contexts[FIRST_NODE_ID + client_id])

    @property
    def simulation(self) -> Simulation:
        """What the simulated clients share."""
        return open_simulation(simulation_options(self.config, self.directory).to_json())


def simulation_options(config: Config, directory: Path) -> SimulationOptions:
    """The world of a run's simulated clients, whose files lie in ``directory``."""
    return federate.simulation_options(config, directory / "nodes", directory / "ledgers")


class Untrained(Pipeline):
    """A run in ``directory`` whose networks have their first weights, as before any training."""

    def __init__(self, config: Config, directory: Path) -> None:
        run = RunDirectory(directory, "run-a")
        super().__init__(config, run, Progress(enabled=False), fingerprints(config))

    def load(self, name: str) -> nn.Module:
        return self.build(self.config.teacher if name == "teacher" else self.config.student)


def ledger_of(folder: Path, config: Config, client_id: int) -> Ledger:
    """The ledger in ``folder`` of a simulated client of ``config``."""
    (data_set,) = data_set_ids(config.privacy, config.dataset.name, [client_id])
    return client_ledger(folder, store_of(folder), data_set)


def begun(ledger: Ledger) -> LedgerFile:
    """The ledger, which lies in a file, as its owner has begun it."""
    assert isinstance(ledger, LedgerFile)
    if not ledger.path.exists():
        create_ledgers([ledger])
    return ledger


def held(config: Config, directory: Path = Path()) -> AbstractContextManager[None]:
    """The ledgers of a run of ``config`` in ``directory``, begun and held as a run holds them."""
    return held_ledgers(Untrained(config, directory))


def into_files(directory: Path) -> None:
    """The ledgers of a directory as an earlier version kept them: each client's in a file."""
    division = read_division(directory)
    assert division is not None
    for data_set, charges in LedgerStore(directory / STORE_FILE).entries().items():
        ledger = begun(LedgerFile(directory / f"{data_set}.ledger", data_set))
        for charge in charges:
            ledger.charge(charge, budget=math.inf, delta=1e-5, accountant="rdp")
    for path in directory.glob(f"{STORE_FILE}*"):
        path.unlink()
    begun_files = {*division.examples, *division.begun} - {STORE}
    replace(division, begun=tuple(sorted(begun_files)), store=False).write(directory)


def make_plan(**changes: object) -> PrivacyPlan:
    """A plan for direct calls of the training code; noise is off unless asked for."""
    plan = PrivacyPlan(
        epsilon=8.0,
        delta=1e-5,
        noise_multiplier=0.0,
        max_grad_norm=1.0,
        sample_rate=1.0,
        expected_examples=1,
        steps=1,
        max_participations=1,
        accountant="rdp",
        randomness="deterministic",
    )
    return replace(plan, **changes)  # type: ignore[arg-type]


def update_of(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    plan: PrivacyPlan,
    *,
    distill: DistillOptions | None = None,
    randomness: Randomness | None = None,
    engine: Engine = ENGINES["opacus"],
) -> Tensor:
    """Minus the change of all weights in one call of ``train_steps`` at learning rate 1.

    With one step, sample rate 1 and expected batch size 1 that is the noised sum of clipped
    gradients. ``model`` is left as it was.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        classes = model(inputs[:1]).shape[1]
    taught = Answers(torch.randn((64, classes), generator=generator)[: len(labels)])
    train_steps(
        model,
        TaughtExamples(build_loss(distill or DistillOptions()), inputs, labels, taught),
        len(labels),
        steps=plan.steps,
        sample_rate=plan.sample_rate,
        expected_batch_size=plan.expected_batch_size,
        learning_rate=1.0,
        momentum=0.0,
        randomness=randomness or DeterministicRandomness(0),
        plan=plan,
        engine=engine,
    )
    moved = torch.cat([(before[n] - p.detach()).flatten() for n, p in model.named_parameters()])
    model.load_state_dict(before)
    return moved


def batch(shape: Sequence[int], count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random inputs (count, *shape) and labels of ten classes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn((count, *shape), generator=generator)
    return inputs, torch.randint(0, 10, (count,), generator=generator)
