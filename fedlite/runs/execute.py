"""Runs stages on a run directory: one process at a time, checked first, kept as far as it got."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedlite.base.compute import compute_device, memory_explained
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.options import NEUTRAL, PATH, PATH_OR_NAME, options_of, value_at
from fedlite.federation.ledgers import hold_ledgers
from fedlite.federation.transport.engines import prepare_engine
from fedlite.privacy.ledger_folder import any_ledger
from fedlite.report.events import TrackedRun
from fedlite.report.progress import Progress
from fedlite.report.tracking import Forgiving, open_tracker, require_library
from fedlite.runs.class_jobs import refuse_one_of_several
from fedlite.runs.config import Config
from fedlite.runs.directory import RunDirectory, open_run
from fedlite.runs.outline import outline
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.preflight import check_delivery, check_run
from fedlite.runs.stages.federate import CHECKPOINT_FILE, simulated_world
from fedlite.runs.stages.table import check_needed, fingerprints, run_stages


def execute(
    config: Config,
    overrides: Sequence[str],
    stages: Sequence[str],
    *,
    resume: bool,
    again: str | None = None,
    quiet: bool = False,
) -> Pipeline:
    """Run stages in ``run.dir``; finished ones with the same options are kept.

    Args:
        config: of the run.
        overrides: the option strings that made it, kept for resume.
        stages: names of the table, in order.
        resume: go on in a directory that holds a run.
        again: a stage that is run although it is done.
        quiet: no progress is shown, whatever ``tracking.progress`` says.

    Raises:
        FedliteError: anything a person can put right; what is finished stays on disk.
    """
    config = with_device(config)
    with (
        memory_explained(),
        open_run(config, list(overrides), resume=resume) as run,
        Progress(config.tracking.progress and not quiet) as progress,
    ):
        if "classes" in run.facts:
            raise UsageError(
                f"run.dir={run.path}: holds several classes of students; choose another directory"
            )
        if tuple(stages) != ("report",):  # which takes a moment, and names its files
            progress.tell(f"run        {run.path}")
        check_delivery(config, stages)
        pipeline = Pipeline(config, run, progress, fingerprints(config))
        federates = "federate" in stages and not run.done("federate", pipeline.marks["federate"])
        if federates:
            prepare_engine(config.engine)
        check_run(pipeline, stages)
        check_needed(pipeline, stages)
        if federates:
            refuse_one_of_several(config)
            for line in outline(pipeline):
                progress.tell(line)
        held = held_ledgers(pipeline) if "federate" in stages else nullcontext()
        with held, tracked(pipeline):
            run.keep_options(config, list(overrides))
            run_stages(pipeline, stages, again)
    return pipeline


@contextmanager
def tracked(pipeline: Pipeline) -> Iterator[None]:
    """Within, the run is open in the tracker that its options name; what fails there later is a
    warning.

    Raises:
        FedliteError: the tracker's library or its store cannot be used.
    """
    config, run = pipeline.config, pipeline.run
    values, here = config.to_plain(), run.path.absolute()
    described = TrackedRun(
        run_id=run.run_id,
        name=f"{here.parent.name}/{here.name}",
        project=config.tracking.project,
        directory=run.path,
        options={
            option.key: value_at(values, option.key)
            for option in options_of(Config)
            if not {NEUTRAL, PATH, PATH_OR_NAME} & set(option.marks)
        },
    )
    opened = open_tracker(config.tracking.tracker, described)
    if opened is None:
        yield
        return
    pipeline.tracker = tracker = Forgiving(opened, pipeline.warn)
    ok = False
    try:
        yield
        ok = True
    finally:
        tracker.close(ok)


def rehearse(config: Config, stages: Sequence[str]) -> None:
    """Refuse what :func:`execute` would refuse before it trains, of a run that has not begun;
    nothing is written.

    Raises:
        FedliteError: names the option and what would be right.
    """
    config = with_device(config)
    require_library(config.tracking.tracker)
    with TemporaryDirectory() as folder, Progress(enabled=False) as progress:
        run = RunDirectory(Path(folder), "rehearsal")
        pipeline = Pipeline(config, run, progress, fingerprints(config))
        check_delivery(config, stages)
        check_run(pipeline, stages)


def with_device(config: Config) -> Config:
    """``config`` with the device that its networks compute on, here and now. Deterministic mode
    promises the bits of a processor, so that only ``device=cuda`` takes it to a GPU.

    Raises:
        UsageError: ``cuda`` without a GPU.
    """
    stays = config.device == "auto" and config.privacy.randomness == "deterministic"
    found: Any = compute_device("cpu" if stays else config.device).type
    return replace(config, device=found)


def held_ledgers(pipeline: Pipeline) -> AbstractContextManager[None]:
    """The ledgers of a run, held for its rounds.

    Raises:
        FedliteError: they are others', held by another run, missing or cannot be written.
    """
    if not pipeline.config.privacy.private:
        return nullcontext()
    options = simulated_world(pipeline)
    plan = pipeline.run.facts.get("plan")
    unbound = plan is not None and plan.get("division") is None
    charged = pipeline.run.file(CHECKPOINT_FILE).exists()
    if unbound and charged and not any_ledger(pipeline.ledger_dir):
        raise FedliteError(
            f"{pipeline.ledger_dir}: the ledgers that this run has charged are not there; restore"
            " them, nothing was trained"
        )
    return hold_ledgers(options, pipeline.division, unbound=unbound)
