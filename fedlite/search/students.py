"""Searching a student: its blocks, widths, depths and kernels under limits of time and size."""

import dataclasses
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from fedlite.base.compute import device_of, moved
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import write_whole
from fedlite.base.options import deciding
from fedlite.base.records import Cost, score_of
from fedlite.base.tensors import state_sha256
from fedlite.compress.exporting import export_file
from fedlite.compress.format import suffix_of
from fedlite.compress.measure import measure_cost
from fedlite.compress.options import CompressOptions, MeasureOptions
from fedlite.compress.shrink.norms import bake_weights, fold_norms
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, Task
from fedlite.distill.answers import Answers
from fedlite.distill.class_weights import class_weights
from fedlite.distill.evaluate import evaluate_model
from fedlite.distill.loss import Loss, build_loss
from fedlite.distill.options import DistillOptions
from fedlite.distill.public import Teach, distil_on_public, require_public, teacher_answers
from fedlite.distill.taps import Between
from fedlite.models.build import build_model, count_parameters
from fedlite.models.options import ModelOptions
from fedlite.privacy.randomness import derive_seed
from fedlite.search.archive import log_trial
from fedlite.search.harness import Budget, OnTrial, run_trials
from fedlite.search.options import StudentSearchOptions
from fedlite.search.result import SearchResult, conclude, smallest_accurate
from fedlite.search.student_space import (
    HAND_SET,
    frame_of,
    genes_of,
    least_bytes,
    student_of,
    student_space,
    student_yaml,
)
from fedlite.search.trials import Limits, Options, Outcome, by_metric, identity_of

STUDENT_FILE = "student.yaml"
FEW = 128  # public examples on which a file that is only timed is folded and calibrated

SERVING = (  # options of compression that decide the file of an unpruned student
    *("norms", "quantization", "bits", "symmetric", "per_channel", "calibration", "percentile"),
    *("opset", "measure"),
)

Export = Callable[[nn.Module, Path], Path]
"""(an untrained student, an empty folder) -> its file there, as it would be served."""


@dataclass(frozen=True)
class StudentSearchResult:
    """What was found, the student, and the config file that ``student=FILE`` takes."""

    search: SearchResult
    student: ModelOptions
    path: Path


def search_student(
    teacher: nn.Module,
    task: Task,
    public: PublicData,
    validation: PublicData,
    config: StudentSearchOptions,
    compress: CompressOptions,
    distill: DistillOptions,
    augment: AugmentOptions,
    directory: Path,
    seed: int,
    *,
    default: ModelOptions,
    export: Export | None = None,
    measure: Callable[[Path, MeasureOptions], Cost] = measure_cost,
    on_trial: OnTrial | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> StudentSearchResult:
    """Search students of stages (:class:`fedlite.models.staged.StagedNet`) on public data alone.

    Each one is built and, before anything is trained, exported and measured as it would be served:
    in the first of ``compress.formats``, with the quantization of ``compress``, without the norms
    that fold where ``compress.norms=fold``, and with no channel pruned. Time and size do not depend
    on the values of the weights. Those over ``config.target`` are left at that. The others are
    distilled from the teacher for ``config.steps`` batches, in torch and with their norms, and
    scored on ``validation``. Students whose weights alone are over ``config.target.bytes`` are
    passed over while there are others.

    The first trial is ``default``, trained whatever it costs, and a candidate like the others. It
    also sets stem, expansion, norm and activation of all students if it is of stages itself.

    NSGA-II looks for high accuracy, low latency, few bytes and few parameters: the noise of DP-SGD
    is added to every parameter, so its norm, and the loss of accuracy in the worst case, grows with
    the root of their number (Bassily, Smith, Thakurta 2014, *Private Empirical Risk Minimization*,
    arXiv 1405.7085). Delivered is the student with the fewest parameters among those within the
    limits that are at most ``config.max_accuracy_drop`` less accurate than the best of them; where
    none is within the limits, the one that is least far over in sum.

    Writes ``directory/student.yaml``.

    Args:
        teacher: teaches the students, who are trained where it is.
        task: what they see and answer; images or series.
        public: for distillation.
        validation: public examples to score on.
        config: space, steps, limits and budget.
        compress: the form in which a student is served and measured.
        distill: loss, and batch size, learning rate and weight decay of its warm start.
        augment: of public inputs.
        directory: of the trials; an interrupted search goes on there.
        seed: of proposals, initial weights and distillation.
        default: the student that is set by hand, of any class.
        export: writes the file that is measured; None: by ``compress``, as above.
        measure: bytes and latency of a file.
        on_trial: called with each new trial.
        clock: seconds.

    Raises:
        TypeError: ``public`` or ``validation`` is not :class:`PublicData`.
        UsageError: inputs without a spatial dimension.
        FedliteError: the first trials all failed.
    """
    require_public(public)
    require_public(validation)
    if len(task.input_shape) < 2:
        raise UsageError(
            f"search_student: the inputs of {task.name} have shape {task.input_shape}; students of"
            " convolutions need images (C, H, W) or series (C, L)"
        )
    write = export or _exporter(task, public, compress, seed)
    limits = Limits(latency_ms=config.target.latency_ms, bytes=config.target.bytes)
    measured = dataclasses.replace(compress.measure, batch_sizes=[1])
    weights = class_weights(public.labels, task.num_classes, distill.class_weights)
    taught: dict[tuple[str, ...], Teach] = {}  # by what a loss taps of the teacher
    frame = frame_of(default)
    space = student_space(config)
    first = genes_of(default, space)
    by_hand = first if first == HAND_SET else space.simplify(first)
    weights_seed = derive_seed(seed, "search-student")

    def student(options: Options) -> ModelOptions:
        return default if options == HAND_SET else student_of(options, frame)

    def build(options: Options) -> nn.Module:
        return build_model(student(options), task, weights_seed)

    def hopeless(options: Options) -> bool:
        if limits.bytes is None:
            return False
        try:
            return least_bytes(build(options), compress) > limits.bytes
        except FedliteError:  # its trial fails, and says why
            return False

    def judge(options: Options, folder: Path) -> Outcome:
        model = build(options)
        path = write(model, folder)
        cost = measure(path, measured)
        outcome = Outcome(
            latency_ms=cost.latency_ms["1"].p50,
            bytes=cost.bytes,
            accuracy=None,
            parameters=count_parameters(model),
            file=str(path.relative_to(directory)),
        )
        if limits.shortfall(outcome) and options != by_hand:
            return outcome
        with moved(device_of(teacher), model):
            loss = build_loss(distill, weights, Between(model, teacher, public.inputs[:2]))
            if (taps := tuple(loss.teacher_taps)) not in taught:
                taught[taps] = _remembered(teacher_answers(teacher, loss))
            _score(model, taught[taps], loss, public, config, distill, augment, seed)
            found = evaluate_model(model, validation, task.num_classes)
        return dataclasses.replace(outcome, accuracy=score_of(found, task.metric))

    space_options, served = dataclasses.asdict(config), dataclasses.asdict(compress)
    distilled = deciding(distill)
    identity = identity_of(
        "student",
        *by_metric(task.metric),
        {name: one for name, one in space_options.items() if name not in ("trials", "max_seconds")},
        compress.formats[0],
        {name: served[name] for name in SERVING},
        dataclasses.asdict(default),
        {name: one for name, one in distilled.items() if name != "word_vectors"},  # of texts
        dataclasses.asdict(augment),
        state_sha256(teacher.state_dict()),
        state_sha256({"public": public.inputs, "validation": validation.inputs}),
        seed,
    )
    trials = run_trials(
        dataclasses.replace(space, first=first, hopeless=hopeless),
        judge,
        limits,
        Budget(config.trials, config.population, config.max_seconds),
        directory,
        identity,
        seed,
        log_trial("student", limits, directory, on_trial),
        clock,
    )
    found = conclude(
        "student",
        trials,
        limits,
        "parameters",
        partial(smallest_accurate, limits=limits, max_drop=config.max_accuracy_drop),
        task.metric,
    )
    winner = default if found.chosen is trials[0] else student_of(found.chosen.options, frame)
    path = directory / STUDENT_FILE
    write_whole(path, student_yaml(winner))
    return StudentSearchResult(found, winner, path)


def _remembered(teach: Teach) -> Teach:
    """``teach`` asked once for each batch: every student is taught with the same ones."""
    answers: dict[bytes, Answers] = {}

    def recall(inputs: Tensor) -> Answers:
        key = hashlib.sha256(inputs.cpu().numpy().tobytes()).digest()
        if key not in answers:
            answers[key] = teach(inputs)
        return answers[key]

    return recall


def _score(
    model: nn.Module,
    teach: Teach,
    loss: Loss,
    public: PublicData,
    config: StudentSearchOptions,
    distill: DistillOptions,
    augment: AugmentOptions,
    seed: int,
) -> None:
    """Teach ``model`` in place, as the warm start does but shorter."""
    settings = distill.warm_start
    distil_on_public(
        model,
        teach,
        public,
        steps=config.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        loss=loss,
        augment=augment,
        seed=derive_seed(seed, "search-student-distil"),
    )


def _exporter(task: Task, public: PublicData, compress: CompressOptions, seed: int) -> Export:
    """Exports by ``compress``, on a few public examples: the weights are not trained yet."""
    few = PublicData(public.inputs[:FEW], public.labels[:FEW])
    suffix = suffix_of(compress.formats[0])
    short = dataclasses.replace(compress, norm_steps=1)

    def export(model: nn.Module, folder: Path) -> Path:
        path = folder / f"student{suffix}"
        if compress.norms == "fold":
            served = fold_norms(model, task, few, short, AugmentOptions(), seed)
        else:
            served = bake_weights(model)
        export_file(compress.formats[0], served, task, path, compress, few, quantized=True)
        return path

    return export
