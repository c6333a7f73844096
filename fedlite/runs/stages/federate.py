"""The federation: all rounds, from the public-only student to the federated one."""

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from fedlite.base.records import Evaluation, Metric, PeakMemory, RoundRecord, score_of
from fedlite.base.tensors import save_tensors, state_sha256
from fedlite.data.types import Task
from fedlite.distill.evaluate import evaluator
from fedlite.federation.checkpoint import load_checkpoint
from fedlite.federation.client_options import CLIENT_OPTIONS, ClientOptions
from fedlite.federation.joins import JoinedStudent
from fedlite.federation.ledgers import sync_cohort
from fedlite.federation.messages import State
from fedlite.federation.plans import Plans
from fedlite.federation.rounds import Federation
from fedlite.federation.server_app import open_server_ledger
from fedlite.federation.simulation import SIMULATION, SimulationOptions, shared_world
from fedlite.federation.transport.engines import run_federation
from fedlite.models.build import frozen_names, load_state
from fedlite.report.memory import memory_section, memory_sentence
from fedlite.report.progress import Bar, Field
from fedlite.report.rounds_csv import FILE, RoundsCsv
from fedlite.report.tensorboard import RunBoard
from fedlite.report.write import round_entry
from fedlite.runs.config import Config
from fedlite.runs.directory import LOG_FILE
from fedlite.runs.facts import FederateFacts, evaluation_facts
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.spending import privacy_section, read_spending

log = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint.pt"


def run(pipeline: Pipeline) -> FederateFacts:
    """Run the rounds that the checkpoint does not hold yet; write ``federated_student.pt`` and
    ``rounds.csv``.

    Raises:
        FedliteError: as :func:`begun_rounds` and :func:`fedlite.federation.rounds.run_rounds`.
    """
    with begun_rounds(pipeline) as rounds:
        rounds.go_on()
    return rounds.concluded()


@dataclasses.dataclass
class Rounds:
    """The rounds of a run while they go on, all at once or in parts.

    ``seconds`` is what they took so far in this process, and ``peak`` its memory.
    """

    pipeline: Pipeline
    federation: Federation
    seconds: float = 0.0
    peak: PeakMemory = dataclasses.field(default_factory=lambda: PeakMemory(None))

    def go_on(self, until: int | None = None, joined: JoinedStudent | None = None) -> None:
        """Run rounds that the checkpoint does not hold yet.

        Args:
            until: the last of them for now; None: of all.
            joined: what a join made of the student, where one did.

        Raises:
            FedliteError: as :func:`fedlite.federation.rounds.run_rounds`.
        """
        pipeline, started = self.pipeline, perf_counter()
        self.federation.until, self.federation.joined = until, joined
        self.peak = run_federation(
            self.federation,
            pipeline.config.engine,
            run_config(pipeline),
            pipeline.run.file(LOG_FILE),
            pipeline.config.device,
        )
        self.seconds += perf_counter() - started

    def concluded(self, joined: State | None = None) -> FederateFacts:
        """Write ``federated_student.pt``, that of the last round or the last join, and say what
        became of it."""
        federation, run = self.federation, self.pipeline.run
        student = federation.result if joined is None else joined
        save_tensors(run.file("federated_student.pt"), student)
        facts: FederateFacts = {
            "sha256": state_sha256(student),
            "stopped": federation.stopped,
            "evaluation": evaluation_facts(federation.evaluate(student)),
            "history": [round_entry(record) for record in federation.history],
            "epsilons": federation.history[-1].epsilons if federation.history else [],
        }
        if (memory := memory_section(self.peak)) is not None:
            log.info("%s", memory_sentence(memory))
            facts["memory"] = memory
        return facts


@contextmanager
def begun_rounds(pipeline: Pipeline) -> Iterator[Rounds]:
    """The rounds of a run, which go on within.

    Raises:
        FedliteError: the ledgers hold less than the rounds of the checkpoint have spent.
    """
    config, splits, checkpoint = (
        pipeline.config,
        pipeline.splits,
        pipeline.run.file(CHECKPOINT_FILE),
    )
    history = load_checkpoint(checkpoint).history if checkpoint.exists() else []
    finished = len(history)
    read_spending(
        config,
        pipeline.plans,
        splits.all_numbers,
        pipeline.ledger_dir,
        pipeline.run.run_id,
        [round_entry(record) for record in history],
        history[-1].epsilons if history else [],
    )
    # The last finished round is written again: a run may be broken off between round and board.
    board = pipeline.board(purge_step=finished or None)
    probe = pipeline.build(config.student).to(pipeline.device)
    measure = evaluator(probe, splits.test, splits.task.num_classes)

    def evaluate(state: State) -> Evaluation:
        load_state(probe, state, where="federated student")
        return measure()

    with pipeline.progress.stage("federate", total=config.federation.rounds) as bar:
        bar.advance(finished)
        table = RoundsCsv(pipeline.run.file(FILE), history, config.dataset.evaluate_on)
        watcher = Watcher(
            bar, board, table, pipeline.plans, pipeline.measured_as, config.dataset.metric
        )
        federation = make_federation(pipeline, checkpoint)
        federation.evaluate, federation.on_round = evaluate, watcher.on_round
        if board is not None:
            log_baselines(pipeline, board)
            if not finished:
                log_start(pipeline, board)
            else:
                watcher.write(history[-1])
        try:
            with shared_world(simulated_world(pipeline), splits):
                yield Rounds(pipeline, federation)
        finally:
            if board is not None:
                board.close()
        if federation.stopped:
            bar.conclude(f"stopped {federation.stopped.split(':')[0]}", complete=False)


def make_federation(pipeline: Pipeline, checkpoint: Path) -> Federation:
    """The federation of a run; who evaluates and who watches is left to the caller."""
    config, plans, student = pipeline.config, pipeline.plans, pipeline.first_student()
    privacy, name, ledgers = config.privacy, config.dataset.name, pipeline.ledger_dir
    numbers = pipeline.splits.all_numbers
    return Federation(
        options=config.federation,
        seed=config.seed,
        run_id=pipeline.run.run_id,
        num_clients=pipeline.splits.num_clients,
        plan=plans.example,
        client_plan=plans.client,
        server_ledger=open_server_ledger(ledgers, name),
        student=dict(student.state_dict()),
        teacher=dict(pipeline.load("teacher").state_dict()),
        evaluate=lambda state: Evaluation(0.0, 0.0, 0.0),
        on_round=lambda record: None,
        checkpoint_path=checkpoint,
        evaluate_every=config.tracking.evaluate_every,
        secret_cohort=plans.client is not None and privacy.randomness == "secure",
        quiet=privacy.trust == "aggregate",
        frozen=frozen_names(student),
        sync_ledgers=lambda cohort: sync_cohort(
            ledgers, privacy, name, [numbers[client] for client in cohort]
        ),
        fleet=pipeline.fleet,
    )


def run_config(pipeline: Pipeline) -> dict[str, str]:
    """Flower's run config: what clients are sent of the run, and the simulated world beside it."""
    config = pipeline.config
    client = client_options(config, pipeline.splits.task, pipeline.class_weights)
    simulation = simulated_world(pipeline)
    return {CLIENT_OPTIONS: client.to_json(), SIMULATION: simulation.to_json()}


def client_options(
    config: Config, task: Task, class_weights: tuple[float, ...] = ()
) -> ClientOptions:
    """What the clients of a run are sent of its options, and the weights of classes."""
    return ClientOptions.of_run(
        task,
        config.teacher,
        config.student,
        config.distill,
        config.privacy,
        config.federation,
        config.seed,
        class_weights,
        config.dataset.augment,
    )


def simulated_world(pipeline: Pipeline) -> SimulationOptions:
    """The world of a run's simulated clients, who keep their files and ledgers in its directory."""
    folder, members = pipeline.run.file("nodes"), pipeline.splits.numbers or ()
    return simulation_options(pipeline.config, folder, pipeline.ledger_dir, members)


def simulation_options(
    config: Config, folder: Path, ledger_dir: Path, members: tuple[int, ...] = ()
) -> SimulationOptions:
    """The world of simulated clients, ``members`` alone where it is a part of them, who keep their
    files and ledgers there."""
    return SimulationOptions(
        dataset=config.dataset,
        partition=config.partition,
        privacy=config.privacy,
        num_clients=config.federation.num_clients,
        seed=config.seed,
        folder=str(folder),
        ledger_dir=str(ledger_dir),
        members=members,
    )


@dataclasses.dataclass(frozen=True)
class Watcher:
    """Shows every finished round in the terminal, in TensorBoard and in ``rounds.csv``."""

    bar: Bar
    board: RunBoard | None
    table: RoundsCsv
    plans: Plans
    measured_as: str
    metric: Metric

    def on_round(self, record: RoundRecord) -> None:
        """Show one round."""
        fields: dict[str, Field] = {}
        if record.evaluation is not None:
            fields[self.measured_as] = score_of(record.evaluation, self.metric)
        if record.epsilons:
            fields["epsilon"] = max(record.epsilons)
        if record.client_level_epsilon is not None:
            fields["client_epsilon"] = record.client_level_epsilon
        if record.simulated:
            fields["simulated_hours"] = record.simulated["clock_seconds"] / 3600
        self.bar.advance(1, **fields)
        self.table.add(record)
        self.write(record)

    def write(self, record: RoundRecord) -> None:
        """Write one round for TensorBoard."""
        example, client = self.plans.example, self.plans.client
        if self.board is not None:
            self.board.log_round(
                record,
                noise_multiplier=example.noise_multiplier if example else None,
                budget=example.epsilon if example else None,
                client_budget=client.epsilon if client else None,
            )


def log_start(pipeline: Pipeline, board: RunBoard) -> None:
    """What TensorBoard shows before round 1: who holds what, and the plan."""
    splits = pipeline.splits
    board.log_partition(splits.class_counts(), splits.task.class_names)
    board.log_plan(privacy_section(pipeline.config, splits, pipeline.plans, spent=None))


def log_baselines(pipeline: Pipeline, board: RunBoard) -> None:
    """The models to beat, which stand beside every round."""
    facts = pipeline.run.facts
    board.log_baseline("teacher", Evaluation(**facts["teacher"]["evaluation"]))
    board.log_baseline("public_student", Evaluation(**facts["warm_start"]["evaluation"]))
