"""Searching the options of compression on public data, by making and measuring each file."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fedlite.base.records import Measurement, score_of
from fedlite.base.tensors import state_sha256
from fedlite.compress.measure import measure_file
from fedlite.compress.options import CompressOptions, MeasureOptions
from fedlite.compress.shrink.norms import foldable_norms
from fedlite.data.types import PublicData, Task
from fedlite.distill.evaluate import evaluate_model
from fedlite.distill.public import require_public
from fedlite.search.archive import log_trial
from fedlite.search.harness import OBJECTIVES, Budget, OnTrial, Space, run_trials
from fedlite.search.result import SearchResult, cheapest, conclude
from fedlite.search.trials import Choice, Limits, Options, Outcome, by_metric, identity_of

RATIO_STEP = 0.05

Make = Callable[[CompressOptions, Path], Path]
"""(the options of one trial, an empty folder) -> the one file made of the student there."""

Measure = Callable[[Path, PublicData, int, int, MeasureOptions], Measurement]
"""As :func:`fedlite.compress.measure.measure_file`."""


@dataclass(frozen=True)
class CompressionSearchResult:
    """What was found, the options that make it, and the file that was measured."""

    search: SearchResult
    config: CompressOptions
    path: Path


def search_compression(
    make: Make,
    student: nn.Module,
    task: Task,
    validation: PublicData,
    config: CompressOptions,
    directory: Path,
    seed: int,
    *,
    measure: Measure = measure_file,
    on_trial: OnTrial | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> CompressionSearchResult:
    """Search pruning ratio, criterion, recovery, norms, quantization and bits of ``config.search``.

    Every trial is ``config`` with some options exchanged, made into one file of the first of
    ``config.formats``. It is judged by the task's metric on ``validation`` in its own runtime, its
    median latency at batch 1 in a fresh process, and its bytes. NSGA-II looks for what is best in
    all three within ``config.max_accuracy_drop`` (against the student in torch) and
    ``config.target``. The first trial is ``config`` as it is set by hand.

    Delivered is the **fastest** file within all limits where ``config.target`` names a latency
    alone, else the **smallest**; where no trial is within them, the one that is least far over in
    sum. The test set is never seen here.

    Args:
        make: makes the file of a trial; a :class:`~fedlite.base.errors.FedliteError` is a failed
            trial. Many trials differ in quantization alone: it does well to keep what it pruned.
        student: the federated student; accuracy is lost against it.
        task: what it sees and answers.
        validation: public examples that recovery and calibration do not use.
        config: options, space, limits and budget.
        directory: of the trials; an interrupted search goes on there.
        seed: of the proposals.
        measure: accuracy, latency and bytes of a file; a runtime of another environment is
            bound to it as ``python``.
        on_trial: called with each new trial.
        clock: seconds.

    Raises:
        TypeError: ``validation`` is not :class:`PublicData`.
        FedliteError: the first trials all failed.
    """
    require_public(validation)
    measured = dataclasses.replace(config.measure, batch_sizes=[1])
    whole = evaluate_model(student, validation, task.num_classes)
    reference = score_of(whole, task.metric)
    limits = Limits(
        config.target.latency_ms, config.target.bytes, reference, config.max_accuracy_drop
    )
    space = compression_space(config, bool(foldable_norms(student, task)))

    def evaluate(options: Options, folder: Path) -> Outcome:
        path = make(with_options(config, options), folder)
        found = measure(path, validation, task.num_classes, 0, measured)
        return Outcome(
            latency_ms=found.cost.latency_ms["1"].p50,
            bytes=found.cost.bytes,
            accuracy=score_of(found, task.metric),
            file=str(path.relative_to(directory)),
        )

    identity = identity_of(
        "compression",
        *by_metric(task.metric),
        _deciding(config),
        state_sha256(student.state_dict()),
        state_sha256({"inputs": validation.inputs, "labels": validation.labels}),
        seed,
    )
    trials = run_trials(
        space,
        evaluate,
        limits,
        Budget(config.search.trials, config.search.population, config.search.max_seconds),
        directory,
        identity,
        seed,
        log_trial("compression", limits, directory, on_trial),
        clock,
    )
    target = config.target
    latency_alone = target.latency_ms is not None and target.bytes is None
    wanted = "latency_ms" if latency_alone else "bytes"
    found = conclude(
        "compression",
        trials,
        limits,
        wanted,
        lambda some: cheapest(some, limits, wanted),
        task.metric,
    )
    chosen = dataclasses.replace(with_options(config, found.chosen.options), formats=config.formats)
    return CompressionSearchResult(found, chosen, directory / found.best.file)


def compression_space(config: CompressOptions, foldable: bool) -> Space:
    """The options of ``config.search``, each with the value that is set by hand among them.

    Args:
        config: ratios are tried in steps of 0.05.
        foldable: whether the student has norms to fold; if not, the option is left out.
    """
    search = config.search
    low, high = min(search.ratios), max(search.ratios)
    steps = int((high - low) / RATIO_STEP + 1e-9)
    ratios = {round(low + RATIO_STEP * step, 4) for step in range(steps + 1)}
    bits = {8, 4} if "weight_only" in search.quantizations else {8}
    norms = {*search.norms, config.norms} if foldable else {config.norms}
    choices: dict[str, list[Choice]] = {
        "ratio": sorted(ratios | {high, config.ratio}),
        "criterion": sorted({*search.criteria, config.criterion}),
        "recovery_steps": sorted({*search.recovery_steps, config.recovery_steps}),
        "norms": sorted(norms),
        "quantization": sorted({*search.quantizations, config.quantization}),
        "bits": sorted(bits | {config.bits}),
    }

    def simplify(genes: Options) -> Options:
        idle = set()
        if genes["ratio"] == 0 and not config.layer_ratios:
            idle.add("criterion")
            if config.sparsity == 0:
                idle.add("recovery_steps")
        if genes["quantization"] != "weight_only":
            idle.add("bits")
        return {name: value for name, value in genes.items() if name not in idle}

    first = {name: getattr(config, name) for name in choices}
    return Space(choices, simplify, OBJECTIVES, first)


def with_options(config: CompressOptions, options: Options) -> CompressOptions:
    """``config`` with the options of a trial, and the first of its formats alone.

    Options that a trial does not name make no difference to it and stay as they are set by hand;
    bits are 8 unless named.
    """
    exchanged = {"bits": 8, **options}
    return dataclasses.replace(config, formats=config.formats[:1], **exchanged)  # type: ignore[arg-type]


def _deciding(config: CompressOptions) -> dict[str, Any]:
    """The options that decide what the trials are and what comes of them."""
    options = dataclasses.asdict(config)
    options["formats"] = config.formats[:1]
    for name in ("signing_key", "converters"):
        del options[name]
    for name in ("enabled", "trials", "max_seconds"):
        del options["search"][name]
    return options
