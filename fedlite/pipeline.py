"""The stages of a run in order; each reads from the run directory and writes into it."""

import dataclasses
import logging
from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console
from torch import nn

from fedlite.audit.stage import Audited, run_audits
from fedlite.config import Config
from fedlite.data import Splits, load_splits
from fedlite.delivery import Delivery, compress_options, run_student_search
from fedlite.distill.cache import cached_teacher, cached_warm_start
from fedlite.distill.evaluate import evaluate_model
from fedlite.distill.teacher import freeze, load_teacher_checkpoint
from fedlite.distill.warm_start import warm_start_steps
from fedlite.errors import UsageError
from fedlite.federation.checkpoint import load_checkpoint
from fedlite.federation.engines import run_federation
from fedlite.federation.messages import State
from fedlite.federation.node import hold_ledgers, sync_cohort
from fedlite.federation.server_app import Federation, open_server_ledger
from fedlite.files import load_tensors, read_json, save_tensors, state_sha256
from fedlite.fingerprints import stage_fingerprints
from fedlite.models.build import build_model, frozen_names, load_state
from fedlite.plans import Plans
from fedlite.preflight import check_delivery, check_run
from fedlite.privacy import derive_seed
from fedlite.privacy_report import privacy_section
from fedlite.records import Evaluation, RoundRecord
from fedlite.run_directory import LOG_FILE, RunDirectory, open_run
from fedlite.summary import AUDITS_FILE, assemble_report
from fedlite.tracking.audits import conclude
from fedlite.tracking.progress import Progress
from fedlite.tracking.report import round_entry, write_report
from fedlite.tracking.table import print_summary
from fedlite.tracking.tensorboard import RunBoard

log = logging.getLogger(__name__)

COMMAND_STAGES: dict[str, tuple[str, ...]] = {
    "simulate": ("teacher", "warm_start", "federate", "compress", "evaluate", "report"),
    "teacher": ("teacher",),
    "federate": ("teacher", "warm_start", "federate"),
    "compress": ("compress", "evaluate", "report"),
    "evaluate": ("evaluate", "report"),
    "report": ("report",),
    "audit": ("audit", "report"),
    "search-student": ("teacher", "search_student"),
}
NEEDED = {"compress": "federate", "evaluate": "compress", "report": "evaluate", "audit": "evaluate"}
ALWAYS_RUN = ("compress", "evaluate", "audit")  # asked for by name: done again


def run_command(command: str, config: Config, overrides: list[str]) -> None:
    """Run a command's stages on its run directory; finished ones with the same options are kept.

    Raises:
        FedliteError: anything a person can put right; what is finished stays on disk.
    """
    resume = config.run.resume or command != "simulate"
    with (
        open_run(config, overrides, resume=resume) as run,
        Progress(config.tracking.progress) as progress,
    ):
        check_delivery(config, COMMAND_STAGES[command])
        pipeline = Pipeline(config, run, progress)
        pipeline.check()
        if command in NEEDED:
            pipeline.need(NEEDED[command])
        charges = "federate" in COMMAND_STAGES[command]
        with hold_ledgers(config) if charges else nullcontext():
            run.keep_options(config, overrides)
            for stage in COMMAND_STAGES[command]:
                pipeline.run_stage(stage, again=stage == command and stage in ALWAYS_RUN)
    pipeline.print_result(command)


class Pipeline:
    """One run: its options, its directory, and the models that its stages hand on."""

    def __init__(self, config: Config, run: RunDirectory, progress: Progress) -> None:
        self.config, self.run, self.progress = config, run, progress
        with progress.stage("data"):
            self.splits: Splits = load_splits(
                config.dataset, config.partition, config.federation.num_clients, config.seed
            )
        self.marks = stage_fingerprints(config)
        self._calibrated: Plans | None = None

    def check(self) -> None:
        """Refuse what would fail later: before any training, and before mixing two runs."""
        plans = self._plans() if self.config.private else Plans()
        check_run(self.config, self.run, self.splits, plans, self.marks["federate"])

    def run_stage(self, stage: str, *, again: bool) -> None:
        """Run one stage unless it is done; ``again`` runs it anyway."""
        if not again and stage != "report" and self.run.done(stage, self.marks[stage]):
            return
        with self.run.stage(stage, self.marks[stage]) as facts:
            facts |= getattr(self, f"_{stage}")()

    # --- stages -----------------------------------------------------------------------------

    def _teacher(self) -> dict[str, Any]:
        config, splits = self.config, self.splits
        task = splits.task
        with self.progress.stage("teacher", total=config.teacher.epochs) as bar:
            if config.teacher.checkpoint is not None:
                teacher = self._build(config.teacher)
                load_teacher_checkpoint(teacher, config.teacher.checkpoint)
                freeze(teacher)
                source = "checkpoint"
            else:
                teacher, cached = cached_teacher(
                    config.teacher,
                    task,
                    splits.public,
                    splits.public_validation,
                    config.dataset.augment,
                    derive_seed(config.seed, "teacher"),
                    lambda epoch, accuracy: bar.advance(accuracy=accuracy),
                )
                source = "cache" if cached else "trained"
            save_tensors(self.run.file("teacher.pt"), dict(teacher.state_dict()))
            evaluation = evaluate_model(teacher, splits.test, task.num_classes)
            bar.advance(0, accuracy=evaluation.accuracy)
        return {"source": source, "evaluation": dataclasses.asdict(evaluation)}

    def _warm_start(self) -> dict[str, Any]:
        config, splits = self.config, self.splits
        student, teacher = self._build(config.student), self._load("teacher")
        steps = warm_start_steps(config.distill.warm_start, len(splits.public))
        with self.progress.stage("public student", total=steps) as bar:
            cached = cached_warm_start(
                config.teacher.cache_dir,
                student,
                config.student,
                teacher,
                splits.public,
                config.distill,
                config.dataset.augment,
                derive_seed(config.seed, "warm-start"),
                lambda step: bar.advance(),
            )
            save_tensors(self.run.file("public_student.pt"), dict(student.state_dict()))
            evaluation = evaluate_model(student, splits.test, splits.task.num_classes)
            bar.advance(0, accuracy=evaluation.accuracy)
        source = "cache" if cached else "trained"
        return {"source": source, "evaluation": dataclasses.asdict(evaluation)}

    def _federate(self) -> dict[str, Any]:
        config, splits = self.config, self.splits
        plans = self._start_plans()
        student = self._first_student()
        checkpoint = self.run.file("checkpoint.pt")
        finished = load_checkpoint(checkpoint).round if checkpoint.exists() else 0
        board = self._board(purge_step=finished + 1 if finished else None)
        probe = self._build(config.student)

        def evaluate(state: State) -> Evaluation:
            load_state(probe, state, where="federated student")
            return evaluate_model(probe, splits.test, splits.task.num_classes)

        with self.progress.stage("federate", total=config.federation.rounds) as bar:
            bar.advance(finished)

            def on_round(record: RoundRecord) -> None:
                fields: dict[str, Any] = {}
                if record.evaluation is not None:
                    fields[config.dataset.metric] = getattr(
                        record.evaluation, config.dataset.metric
                    )
                if record.epsilons:
                    fields["epsilon"] = max(record.epsilons)
                if record.client_level_epsilon is not None:
                    fields["client_epsilon"] = record.client_level_epsilon
                bar.advance(**fields)
                if board is not None:
                    board.log_round(
                        record,
                        noise_multiplier=plans.example.noise_multiplier if plans.example else None,
                        budget=plans.example.epsilon if plans.example else None,
                        client_budget=plans.client.epsilon if plans.client else None,
                    )

            federation = Federation(
                config=config,
                run_id=self.run.run_id,
                num_clients=splits.num_clients,
                plan=plans.example,
                client_plan=plans.client,
                server_ledger=open_server_ledger(self._ledger_dir(), config),
                frozen=frozen_names(student),
                student=dict(student.state_dict()),
                teacher=dict(self._load("teacher").state_dict()),
                evaluate=evaluate,
                on_round=on_round,
                checkpoint_path=checkpoint,
                sync_ledgers=lambda cohort: sync_cohort(self._ledger_dir(), config, cohort),
            )
            if board is not None and not finished:
                self._log_start(board, plans)
            try:
                run_federation(
                    federation, self.run.path, self._ledger_dir(), self.run.file(LOG_FILE)
                )
            finally:
                if board is not None:
                    board.close()
        save_tensors(self.run.file("federated_student.pt"), federation.result)
        evaluation = evaluate(federation.result)
        return {
            "sha256": state_sha256(federation.result),
            "stopped": federation.stopped,
            "evaluation": dataclasses.asdict(evaluation),
            "history": [round_entry(record) for record in federation.history],
        }

    def _compress(self) -> dict[str, Any]:
        return self._delivery().compress()

    def _evaluate(self) -> dict[str, Any]:
        self.need("compress")
        return self._delivery().evaluate()

    def _report(self) -> dict[str, Any]:
        self.need("evaluate")
        report = self._assemble()
        names = self.splits.task.class_names
        confusion = self.run.facts("federate")["evaluation"]["confusion"]
        write_report(report, self.run.path, self.splits.class_counts(), names, confusion)
        self._delivery().bundle(report)
        board = self._board(purge_step=self.config.federation.rounds + 1)
        if board is not None:
            with board:
                board.log_final(report, names, confusion)
                if report["search"]:
                    board.log_search(report["search"], self.run.file("pictures"))
        return {}

    def _search_student(self) -> dict[str, Any]:
        teacher = self._load("teacher")
        found = run_student_search(self.config, self.run, self.splits, teacher, self.progress)
        board = self._board(purge_step=None)
        if board is not None:
            with board:
                board.log_search(found, self.run.file("pictures"))
        return found

    def _audit(self) -> dict[str, Any]:
        student, teacher = self._first_student(), self._load("teacher")
        config = dataclasses.replace(self.config, compress=compress_options(self.config, self.run))
        audited = Audited.of_run(
            config, self.run, self.splits, self._plans(), self._ledger_dir(), student, teacher
        )
        run_audits(audited, self.progress, self._board(self.config.federation.rounds + 1))
        return {}

    # --- what stages share ------------------------------------------------------------------

    def print_result(self, command: str) -> None:
        """The table and the paths for the person at the terminal."""
        console = Console()
        if command == "audit":
            conclude(read_json(self.run.file(AUDITS_FILE)), self.run.path, console)
            return
        if command == "search-student":
            found = self.run.facts("search_student")
            console.print(found["text"], soft_wrap=True)
            console.print(f"student: {self.run.file(found['student_file'])}", soft_wrap=True)
            console.print(f"trials: {self.run.file(found['trials_file'])}", soft_wrap=True)
            return
        if COMMAND_STAGES[command][-1] == "report":
            here, deploy = quote(str(self.run.path)), self.run.file("deploy")
            paths: dict[str, Path | str] = {
                "report": self.run.file("report.md"),
                "deploy": deploy,
                "tensorboard": f"tensorboard --logdir {here}",
                "predict": f"fedlite predict model={quote(str(deploy))} input=FILE",
            }
            if "onnx" in self.config.compress.formats:
                paths["demo"] = f"fedlite demo run.dir={here}"
            print_summary(self._assemble(), paths, console)
            return
        for stage in COMMAND_STAGES[command]:
            accuracy = self.run.facts(stage)["evaluation"]["accuracy"]
            console.print(f"{stage}: accuracy {accuracy:.4f}")
        console.print(f"run directory: {self.run.path}", soft_wrap=True)

    def _assemble(self) -> dict[str, Any]:
        return assemble_report(
            self.config, self.run, self.splits, self._plans(), self._ledger_dir()
        )

    def _plans(self) -> Plans:
        """The privacy plans, calibrated once: a resumed run spends by those it started with."""
        if known := self.run.facts("plan"):
            return Plans.from_facts(known["plans"])
        if self._calibrated is None:
            self._calibrated = Plans.build(self.config, self.splits.client_sizes())
        return self._calibrated

    def _start_plans(self) -> Plans:
        """Write the plans, and whose ledgers they charge, down before the first charge."""
        plans = self._plans()
        if not self.run.facts("plan"):
            with self.run.stage("plan", self.marks["federate"]) as facts:
                facts["plans"] = plans.to_facts()
                facts["ledger_dir"] = self.config.privacy.ledger_dir
        return plans

    def _ledger_dir(self) -> Path:
        elsewhere = self.config.privacy.ledger_dir
        return Path(elsewhere).absolute() if elsewhere else self.run.file("ledgers")

    def _build(self, config: Any) -> nn.Module:
        task = self.splits.task
        return build_model(config, task.input_shape, task.num_classes, self.config.seed)

    def _load(self, name: str) -> nn.Module:
        """A stored full-width model, in eval mode."""
        stage = {"teacher": "teacher", "public_student": "warm_start"}.get(name, "federate")
        self.need(stage)
        model = self._build(self.config.teacher if name == "teacher" else self.config.student)
        load_state(model, load_tensors(self.run.file(f"{name}.pt")), where=f"{name}.pt")
        return model.eval()

    def _first_student(self) -> nn.Module:
        """The student that round 1 starts with."""
        warm = self.config.distill.warm_start.enabled
        return self._load("public_student") if warm else self._build(self.config.student)

    def need(self, stage: str) -> None:
        """Refuse to go on without a stage that ran with these options."""
        if not self.run.done(stage, self.marks[stage]):
            raise UsageError(
                f"run.dir={self.run.path}: stage '{stage}' has not run there with these options;"
                " go on with `fedlite simulate run.dir=DIR run.resume=true`"
            )

    def _delivery(self) -> Delivery:
        return Delivery(self.config, self.run, self.splits, self.progress, self._load)

    def _board(self, purge_step: int | None) -> RunBoard | None:
        if not self.config.tracking.tensorboard:
            return None
        return RunBoard(self.run.path, purge_step=purge_step, client_level=self.config.client_level)

    def _log_start(self, board: RunBoard, plans: Plans) -> None:
        board.log_partition(self.splits.class_counts(), self.splits.task.class_names)
        board.log_plan(privacy_section(self.config, self.splits, plans, spent=None))
        for name, stage in (("teacher", "teacher"), ("public_student", "warm_start")):
            board.log_baseline(name, Evaluation(**self.run.facts(stage)["evaluation"]))
