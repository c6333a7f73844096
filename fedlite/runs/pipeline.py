"""What the stages of a run share: its options, its directory, and the models they hand on."""

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from fedlite.base.compute import compute_device
from fedlite.base.errors import UsageError
from fedlite.base.records import ModelKey
from fedlite.base.tensors import load_tensors
from fedlite.data.splits import Splits
from fedlite.distill.class_weights import class_weights
from fedlite.distill.transfer import transfer_words
from fedlite.federation.fleet import Fleet
from fedlite.federation.ledgers import divide
from fedlite.federation.noise_walk import TrainedWeights
from fedlite.federation.plans import Plans
from fedlite.models.build import build_model, load_state
from fedlite.models.options import ModelOptions
from fedlite.privacy.division import Division
from fedlite.report.events import Tracker
from fedlite.report.progress import Progress
from fedlite.report.tensorboard import RunBoard
from fedlite.runs.config import Config
from fedlite.runs.directory import RunDirectory
from fedlite.runs.facts import MODEL_STAGES
from fedlite.runs.fleet import build_fleet
from fedlite.runs.splits import splits_of
from fedlite.runs.sweeps import board_folder, swept_values

log = logging.getLogger(__name__)


class Pipeline:
    """One run while its stages go on.

    ``marks`` are the fingerprints of the stages with these options
    (:func:`fedlite.runs.stages.table.fingerprints`). ``tracker`` is told what TensorBoard is.
    ``whole`` is the data set of all classes of students, of which this run is one.
    """

    tracker: Tracker | None = None

    def __init__(
        self,
        config: Config,
        run: RunDirectory,
        progress: Progress,
        marks: Mapping[str, str],
        whole: Splits | None = None,
    ) -> None:
        self.config, self.run, self.progress, self.marks = config, run, progress, marks
        self._whole = whole

    @cached_property
    def device(self) -> torch.device:
        """Where its networks compute."""
        return compute_device(self.config.device)

    def warn(self, line: str) -> None:
        """Tell the log and the person."""
        log.warning("%s", line)
        self.progress.warn(line)

    @cached_property
    def splits(self) -> Splits:
        """The data, read and split once; what a user may not have meant is said."""
        with self.progress.stage("data"):
            splits = splits_of(self.config, self._whole)
        for note in splits.notes:
            self.warn(note)
        return splits

    @property
    def tested(self) -> str:
        """What evaluations are on, as the first word of a number's name."""
        return "test" if self.config.dataset.evaluate_on == "test" else "held_out"

    @property
    def measured_as(self) -> str:
        """The name of a score in the progress: ``test_accuracy``, ``held_out_macro_f1``."""
        return f"{self.tested}_{self.config.dataset.metric}"

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Of the student's loss, from public labels; empty where all are 1."""
        splits, how = self.splits, self.config.distill.class_weights
        return class_weights(splits.public.labels, splits.task.num_classes, how)

    @cached_property
    def plans(self) -> Plans:
        """The privacy plans, calibrated once: a resumed run spends by those it started with."""
        if known := self.run.facts.get("plan"):
            return Plans.from_facts(known["plans"])
        privacy = self.config.privacy
        if not privacy.private:
            return Plans()
        sizes = self.splits.client_sizes()
        return Plans.build(
            privacy, self.config.federation, sizes, self.config.fleet, self.first_weights
        )

    @cached_property
    def first_weights(self) -> TrainedWeights:
        """The student's, before any training."""
        return TrainedWeights.of(self.build(self.config.student))

    @cached_property
    def fleet(self) -> Fleet | None:
        """The devices that its clients are simulated to be; None without a fleet."""
        splits = self.splits
        return build_fleet(self.config, self.plans, splits.task, splits.client_sizes())

    @cached_property
    def division(self) -> Division:
        """Who holds which examples, by digests: what ledgers are bound to."""
        return divide(self.splits, self.config.privacy, self.config.dataset.name)

    @property
    def ledger_dir(self) -> Path:
        """Where the clients' ledgers lie."""
        return ledger_folder(self.config, self.run.path)

    def need(self, stage: str) -> None:
        """Refuse to go on without a stage that ran with these options.

        Raises:
            UsageError: says how to run it.
        """
        if not self.run.done(stage, self.marks[stage]):
            raise UsageError(
                f"run.dir={self.run.path}: stage '{stage}' has not run there with these options;"
                " run it with them first, or leave them out"
            )

    def build(self, options: ModelOptions) -> nn.Module:
        """A network with its first weights."""
        task = self.splits.task
        return build_model(options, task, self.config.seed)

    def load(self, name: ModelKey) -> nn.Module:
        """A stored full-width model (a key of ``MODEL_STAGES``), in eval mode."""
        self.need(MODEL_STAGES[name])
        model = self.build(self.config.teacher if name == "teacher" else self.config.student)
        load_state(model, load_tensors(self.run.file(f"{name}.pt")), where=f"{name}.pt")
        return model.eval()

    def new_student(self) -> nn.Module:
        """The student before any training, with what is transferred to it of the teacher."""
        student = self.build(self.config.student)
        if self.config.distill.word_vectors == "teacher":
            transfer_words(student, self.load("teacher"))
        return student

    def first_student(self) -> nn.Module:
        """The student that round 1 starts with."""
        warm = self.config.distill.warm_start.enabled
        return self.load("public_student") if warm else self.new_student()

    def board(self, purge_step: int | None) -> RunBoard | None:
        """TensorBoard's writer, which tells the tracker too; None where both are turned off."""
        events = self.config.tracking.tensorboard
        if not events and self.tracker is None:
            return None
        swept = swept_values(self.run.path)
        return RunBoard(
            board_folder(self.run.path, swept),
            swept=swept,
            purge_step=purge_step,
            client_level=self.config.privacy.client_level,
            fleet=self.config.fleet.simulated,
            tracker=self.tracker,
            events=events,
        )


def ledger_folder(config: Config, run_dir: Path) -> Path:
    """Where the ledgers of a run lie."""
    elsewhere = config.privacy.ledger_dir
    return Path(elsewhere).absolute() if elsewhere else run_dir / "ledgers"
