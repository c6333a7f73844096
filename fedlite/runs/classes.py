"""A run of several classes of students: a run of its own for each, and rounds in lock step.

Every class is a run in ``classes/NAME``, with its own plan, ledgers, checkpoint and files, whose
data set has the clients of that class alone; what is done with a run is done with it. Between two
stretches of rounds the classes' released students learn from each other on public data
(:mod:`fedlite.runs.lock_step`), which nothing is charged for (docs/classes.md).
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from fedlite.base.class_folders import CLASSES
from fedlite.base.compute import memory_explained
from fedlite.base.errors import UsageError
from fedlite.base.files import read_json
from fedlite.base.options import parse
from fedlite.data.splits import Splits
from fedlite.federation.class_options import KEY, StudentClass
from fedlite.federation.joins import load_joins
from fedlite.federation.transport.engines import prepare_engine
from fedlite.federation.workbench import room_for
from fedlite.report.classes import ClassesReport, write_classes
from fedlite.report.progress import Progress
from fedlite.runs.class_jobs import ALONE, ClassJob, class_jobs, of_class
from fedlite.runs.class_report import classes_report
from fedlite.runs.config import Config
from fedlite.runs.directory import CONFIG_FILE, RunDirectory, open_run
from fedlite.runs.execute import held_ledgers, tracked, with_device
from fedlite.runs.literal import literal
from fedlite.runs.lock_step import is_federated, run_together
from fedlite.runs.outline import outline
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.preflight import check_delivery, check_run
from fedlite.runs.splits import splits_of
from fedlite.runs.stages.table import check_needed, fingerprints

log = logging.getLogger(__name__)

JOINS_FILE = "joins.pt"
OF_ONE_STUDENT = ("search_student", "tune")
DEFAULT = StudentClass()


@dataclass(frozen=True)
class ClassRuns:
    """What was run in ``path``: the run of each class by name, and the report of all of them where
    one was asked for."""

    path: Path
    joined: Mapping[str, Pipeline]
    report: ClassesReport | None = None


def execute_classes(
    config: Config,
    overrides: Sequence[str],
    stages: Sequence[str],
    *,
    resume: bool,
    again: str | None = None,
) -> ClassRuns:
    """Run stages of every class in ``run.dir``; as :func:`fedlite.runs.execute.execute`.

    Each class by itself, where it is asked for beside them (``federation.compare``), is run up to
    its last round, in ``alone/NAME``.

    Raises:
        FedliteError: anything a person can put right; what is finished stays on disk.
    """
    if stages[-1] in OF_ONE_STUDENT:
        raise UsageError(f"{KEY}: this command is about one student; leave them out")
    config = with_device(config)
    with (
        memory_explained(),
        open_run(config, list(overrides), resume=resume) as run,
        Progress(config.tracking.progress) as progress,
        ExitStack() as stack,
    ):
        progress.tell(f"run        {run.path}")
        _refuse_others(run, config)
        check_delivery(config, stages)
        if "federate" in stages:
            prepare_engine(config.engine)
        with progress.stage("data"):
            whole = splits_of(config)
        for note in whole.notes:
            log.warning("%s", note)
            progress.warn(note)
        whole = replace(whole, notes=())  # each class has the same
        jobs, by_itself = class_jobs(config, overrides, run.path, CLASSES), {}
        if config.federation.compare:
            by_itself = class_jobs(config, overrides, run.path, ALONE)
        stack.enter_context(room_for(len(jobs) + len(by_itself)))
        joined, alone = (_opened(stack, ones, progress, whole) for ones in (jobs, by_itself))
        rounds = stages[: stages.index("federate") + 1] if "federate" in stages else ()
        _check(joined, stages)
        _check(alone, rounds)
        with run.stage("classes", "") as facts:
            facts["members"] = {name: list(one.splits.all_numbers) for name, one in joined.items()}
        if rounds:
            _tell(joined, progress)
        _hold(stack, joined, jobs, stages)
        _hold(stack, alone, by_itself, rounds)
        run.keep_options(config, list(overrides))
        joins_file = run.file(JOINS_FILE)
        every = config.federation.join.every
        run_together(joined, joins_file if every else None, stages, again, progress)
        run_together(alone, None, rounds, None, progress)
        if stages[-1] != "report":
            return ClassRuns(run.path, joined)
        report = classes_report(config, run.path, joined, alone, load_joins(joins_file).history)
        write_classes(report, run.path)
        return ClassRuns(run.path, joined, report)


def _opened(
    stack: ExitStack, jobs: Mapping[str, ClassJob], progress: Progress, whole: Splits
) -> dict[str, Pipeline]:
    """The run of each class, begun where there was none."""
    found = {}
    for name, job in jobs.items():
        config = with_device(job.config)
        run = stack.enter_context(open_run(config, job.overrides, resume=True))
        label = progress.labelled(job.label)
        found[name] = Pipeline(config, run, label, fingerprints(config), whole)
    return found


def _check(pipelines: Mapping[str, Pipeline], stages: Sequence[str]) -> None:
    """Refuse what a run of one student refuses.

    Raises:
        FedliteError: names the class.
    """
    if not stages:
        return
    for name, pipeline in pipelines.items():
        with of_class(name):
            check_run(pipeline, stages)
            check_needed(pipeline, stages)


def _hold(
    stack: ExitStack,
    pipelines: Mapping[str, Pipeline],
    jobs: Mapping[str, ClassJob],
    stages: Sequence[str],
) -> None:
    """Hold ledgers and tracker of every class, and keep its options, as it is about to run."""
    if not stages:
        return
    for name, pipeline in pipelines.items():
        with of_class(name):
            if "federate" in stages:
                stack.enter_context(held_ledgers(pipeline))
            stack.enter_context(tracked(pipeline))
        pipeline.run.keep_options(pipeline.config, jobs[name].overrides)


def _tell(pipelines: Mapping[str, Pipeline], progress: Progress) -> None:
    """Show what each class whose rounds are not done is about to do."""
    for name, pipeline in pipelines.items():
        if not is_federated(pipeline):
            progress.tell(f"class      {name}: student {pipeline.config.student.name}")
            for line in outline(pipeline):
                progress.tell(line)


def _refuse_others(run: RunDirectory, config: Config) -> None:
    """Refuse to go on with other classes than those that a run was started with; limits may change.

    Raises:
        UsageError: names those that differ.
    """
    if not run.stages:
        return
    if "classes" not in run.facts:
        raise UsageError(
            f"run.dir={run.path}: holds a run of one student; choose another directory for {KEY}"
        )
    before, now = (
        {name: replace(one, max_bytes=None) for name, one in federation.classes.items()}
        for federation in (
            parse(Config, read_json(run.file(CONFIG_FILE))).federation,
            config.federation,
        )
    )
    found = [
        f"{KEY}.{name} {_said(before.get(name))} then, {_said(now.get(name))} now"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if found:
        raise UsageError(
            f"run.dir={run.path}: was started with other classes ({'; '.join(found)}); leave them"
            " as they were, or choose another directory"
        )


def _said(one: StudentClass | None) -> str:
    """What of a class is not as by default, as it would be typed."""
    if one is None:
        return "not there"
    given = {key: value for key, value in vars(one).items() if value != getattr(DEFAULT, key)}
    return literal(given)
