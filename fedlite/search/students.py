"""Searching a student: its blocks, widths, depths and kernels under limits of time and size."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf
from torch import nn

from fedlite.compress.formats import export_file, suffix_of
from fedlite.compress.measure import measure_cost
from fedlite.compress.norms import bake_weights, fold_norms
from fedlite.config import (
    AugmentConfig,
    CompressConfig,
    DistillConfig,
    MeasureConfig,
    ModelConfig,
    StudentSearchConfig,
)
from fedlite.data.types import PublicData, Task
from fedlite.distill.evaluate import evaluate_model
from fedlite.distill.losses import build_loss
from fedlite.distill.public import distil_on_public, require_public
from fedlite.errors import FedliteError, UsageError
from fedlite.files import state_sha256, write_whole
from fedlite.models.build import build_model, count_parameters
from fedlite.privacy import derive_seed
from fedlite.records import Cost
from fedlite.search.harness import OBJECTIVES, Budget, OnTrial, Space, run_trials
from fedlite.search.record import log_trial
from fedlite.search.result import SearchResult, conclude, smallest_accurate
from fedlite.search.trials import Choice, Limits, Options, Outcome, identity_of

STAGED = "fedlite.models.staged.StagedNet"
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
    student: ModelConfig
    path: Path


def search_student(
    teacher: nn.Module,
    task: Task,
    public: PublicData,
    validation: PublicData,
    config: StudentSearchConfig,
    compress: CompressConfig,
    distill: DistillConfig,
    augment: AugmentConfig,
    directory: Path,
    seed: int,
    *,
    default: ModelConfig | None = None,
    export: Export | None = None,
    measure: Callable[[Path, MeasureConfig], Cost] = measure_cost,
    on_trial: OnTrial | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> StudentSearchResult:
    """Search students of stages (:class:`fedlite.models.staged.StagedNet`) on public data alone.

    Each one is built and, before anything is trained, exported and measured as it would be served:
    in the first of ``compress.formats``, with the quantization of ``compress``, without the norms
    that fold where ``compress.norms=fold``, and with no channel pruned. Time and size do not depend
    on the values of the weights. Those over
    ``config.target`` are left at that. The others are distilled from the teacher for
    ``config.steps`` batches, in torch and with their norms, and scored on ``validation``.

    NSGA-II looks for high accuracy, low latency, few bytes and few parameters: the noise of DP-SGD
    is added to every parameter, so its norm, and the loss of accuracy in the worst case, grows with
    the root of their number (Bassily, Smith, Thakurta 2014, *Private Empirical Risk Minimization*,
    arXiv 1405.7085). Delivered is the student with the fewest parameters among those within the
    limits that are at most ``config.max_accuracy_drop`` less accurate than the best of them; where
    none is within the limits, the one that is least far over in sum.

    Writes ``directory/student.yaml``.

    Args:
        teacher: teaches the students.
        task: what they see and answer; images or series.
        public: for distillation.
        validation: public examples to score on.
        config: space, steps, limits and budget.
        compress: the form in which a student is served and measured.
        distill: loss, and batch size, learning rate and weight decay of its warm start.
        augment: of public inputs.
        directory: of the trials; an interrupted search goes on there.
        seed: of proposals, initial weights and distillation.
        default: a student set by hand, to compare: measured and scored in the same way, whatever
            the limits.
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

    def judge(student: ModelConfig, folder: Path, limits: Limits) -> Outcome:
        model = build_model(
            student, task.input_shape, task.num_classes, derive_seed(seed, "search-student")
        )
        path = write(model, folder)
        cost = measure(path, measured)
        outcome = Outcome(
            latency_ms=cost.latency_ms["1"].p50,
            bytes=cost.bytes,
            accuracy=None,
            parameters=count_parameters(model),
            file=str(path.relative_to(directory)),
        )
        if limits.shortfall(outcome):
            return outcome
        _score(model, teacher, public, config, distill, augment, seed)
        accuracy = evaluate_model(model, validation, task.num_classes).accuracy
        return dataclasses.replace(outcome, accuracy=accuracy)

    space, served = dataclasses.asdict(config), dataclasses.asdict(compress)
    identity = identity_of(
        "student",
        {name: value for name, value in space.items() if name not in ("trials", "max_seconds")},
        compress.formats[0],
        {name: served[name] for name in SERVING},
        dataclasses.asdict(distill),
        dataclasses.asdict(augment),
        state_sha256(teacher.state_dict()),
        state_sha256({"public": public.inputs, "validation": validation.inputs}),
        seed,
    )
    trials = run_trials(
        student_space(config),
        lambda options, folder: judge(student_of(options), folder, limits),
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
        None if default is None else _judge_default(judge, default, directory),
        "parameters",
        partial(smallest_accurate, limits=limits, max_drop=config.max_accuracy_drop),
    )
    student = student_of(found.chosen.options)
    path = directory / STUDENT_FILE
    write_whole(path, student_yaml(student))
    return StudentSearchResult(found, student, path)


def student_space(config: StudentSearchConfig) -> Space:
    """Number of stages, and of each its block, width, depth and kernel size."""
    most = max(config.stages)
    choices: dict[str, list[Choice]] = {"stages": sorted(set(config.stages))}
    for stage in range(most):
        choices[f"block_{stage}"] = list(dict.fromkeys(config.blocks))
        choices[f"width_{stage}"] = sorted(set(config.widths))
        choices[f"depth_{stage}"] = sorted(set(config.depths))
        choices[f"kernel_size_{stage}"] = sorted(set(config.kernel_sizes))

    def simplify(genes: Options) -> Options:
        there = {str(stage) for stage in range(int(genes["stages"]))}
        return {
            name: value
            for name, value in genes.items()
            if name == "stages" or name.rpartition("_")[2] in there
        }

    return Space(choices, simplify, {**OBJECTIVES, "parameters": "minimize"})


def student_of(options: Options) -> ModelConfig:
    """The student that a point of :func:`student_space` stands for."""
    stages = [
        {key: options[f"{key}_{stage}"] for key in ("block", "width", "depth", "kernel_size")}
        for stage in range(int(options["stages"]))
    ]
    return ModelConfig(name="searched", module=STAGED, kwargs={"stages": stages})


def student_yaml(student: ModelConfig) -> str:
    """A student as a config file, in the form of those in ``conf/student/``."""
    head = "# Found by `fedlite search-student`; use it with `fedlite simulate student=FILE`.\n"
    return head + OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(student)))


def _score(
    model: nn.Module,
    teacher: nn.Module,
    public: PublicData,
    config: StudentSearchConfig,
    distill: DistillConfig,
    augment: AugmentConfig,
    seed: int,
) -> None:
    """Distil ``teacher`` into ``model`` in place, as the warm start does but shorter."""
    settings = distill.warm_start
    distil_on_public(
        model,
        teacher,
        public,
        steps=config.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        loss=build_loss(distill),
        augment=augment,
        seed=derive_seed(seed, "search-student-distil"),
    )


def _judge_default(
    judge: Callable[[ModelConfig, Path, Limits], Outcome], default: ModelConfig, directory: Path
) -> Outcome | None:
    """What ``default`` comes to, trained whatever it costs; None where it cannot be made."""
    folder = directory / "default"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return judge(default, folder, Limits())
    except FedliteError:
        return None


def _exporter(task: Task, public: PublicData, compress: CompressConfig, seed: int) -> Export:
    """Exports by ``compress``, on a few public examples: the weights are not trained yet."""
    few = PublicData(public.inputs[:FEW], public.labels[:FEW])
    suffix = suffix_of(compress.formats[0])
    short = dataclasses.replace(compress, norm_steps=1)

    def export(model: nn.Module, folder: Path) -> Path:
        path = folder / f"student{suffix}"
        if compress.norms == "fold":
            served = fold_norms(model, task, few, short, AugmentConfig(), seed)
        else:
            served = bake_weights(model)
        export_file(
            compress.formats[0],
            served,
            task,
            path,
            compress,
            few,
            quantized=compress.quantization != "none",
        )
        return path

    return export
