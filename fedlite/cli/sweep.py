"""A sweep: all of its jobs are checked, then they run one after the other and are compared."""

import itertools
import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.logs import route_logs
from fedlite.base.records import METRIC_NAMES
from fedlite.cli.errors import explained, say
from fedlite.cli.jobs import Job, StageCommand, checked, run_job
from fedlite.cli.parse import RESUME, RUN_DIR, Arguments
from fedlite.cli.sweep_results import show_sweep
from fedlite.cli.sweep_scores import SweepJob, score_in
from fedlite.federation.class_options import KEY
from fedlite.report.schema import Report
from fedlite.report.words import (
    epsilons_text,
    human_seconds,
    is_private,
    metric_of,
    score_text,
    tested_on,
    tested_words,
)
from fedlite.runs.class_jobs import has_classes
from fedlite.runs.directory import has_begun, portable, refuse_begun
from fedlite.runs.facts import MODEL_STAGES
from fedlite.runs.literal import key_of
from fedlite.runs.sweeps import write_swept
from fedlite.runs.typed import values_swept

if TYPE_CHECKING:  # what runs jobs is imported when they are checked
    from fedlite.runs.pipeline import Pipeline

LARGEST = 1000  # jobs: more are a slip of the keyboard

log = logging.getLogger(__name__)


def run_sweep(arguments: Arguments, command: StageCommand, options: Sequence[str]) -> int:
    """Run a job for every combination of the values given; 1 if any failed.

    A job that fails keeps no other from running. Where jobs write reports, those are compared.

    Raises:
        UsageError: options of any job are wrong; none has begun then.
    """
    jobs = checked_jobs(options)
    if any(has_classes(job.config) for job in jobs):
        raise UsageError(f"-m: a sweep compares runs of one student; leave out {KEY}")
    resumes = jobs[0].config.run.resume or arguments.command != "simulate"
    _refuse_now_what_would_be_refused_later(jobs, command, resumes)
    swept = swept_options(jobs)
    folder, results = jobs[0].directory.parent, []
    write_swept(folder, swept)
    with _told_how_the_sweep_goes_on(arguments.command, options, folder):
        for number, job in enumerate(jobs):
            values = {key: _value(job, key) for key in swept}
            said = "  ".join(f"{key}={value}" for key, value in values.items())
            print(f"job {number} of {len(jobs)}  {said}".rstrip(), flush=True)
            result = _run(arguments, command, job, values)
            results.append(result)
        if command.stages[-1] == "report":
            show_sweep(results, folder)
    return int(any(one.failure for one in results))


def checked_jobs(options: Sequence[str]) -> list[Job]:
    """A job for every combination of the values that options hold, each in a numbered directory of
    the sweep's.

    Raises:
        UsageError: options of any of them are wrong.
    """
    combinations = [list(one) for one in itertools.product(*map(values_swept, options))]
    if len(combinations) > LARGEST:
        raise UsageError(f"-m: {len(combinations):,} jobs; at most {LARGEST:,} in one sweep")
    from fedlite.runs.compose import compose_config

    with _of_job(0, len(combinations)):
        folder = Path(compose_config(combinations[0]).run.dir).resolve()
    jobs = []
    for number, one in enumerate(combinations):
        with _of_job(number, len(combinations)):
            jobs.append(checked(one, folder / str(number)))
    return jobs


def _refuse_now_what_would_be_refused_later(
    jobs: Sequence[Job], command: StageCommand, resumes: bool
) -> None:
    """Go through every job up to its first training.

    Raises:
        FedliteError: of the first job that would be refused.
    """
    if not resumes:
        for job in jobs:
            refuse_begun(job.directory)
    print(f"checking {len(jobs)} jobs", file=sys.stderr, flush=True)
    from fedlite.runs.execute import rehearse
    from fedlite.runs.stages.table import with_needed

    route_logs(None)  # after the imports: libraries add handlers there
    for job in jobs:
        if not has_begun(job.directory):
            with _of_job(job.directory.name, len(jobs)):
                rehearse(job.config, with_needed(command.stages[-1]))


@contextmanager
def _of_job(number: int | str, jobs: int) -> Iterator[None]:
    """Within, an error says which job it is of."""
    try:
        yield
    except FedliteError as error:
        raise type(error)(f"job {number} of {jobs}: {error}") from error


def swept_options(jobs: Sequence[Job]) -> list[str]:
    """The options whose values differ between jobs, in the order they were given."""
    given = dict.fromkeys(key_of(text) for job in jobs for text in job.options)
    return [key for key in given if len({_value(job, key) for job in jobs}) > 1]


def _value(job: Job, key: str) -> str:
    given = {key_of(text): text.partition("=")[2] for text in job.options}
    return given.get(key, "–")


def _run(arguments: Arguments, command: StageCommand, job: Job, values: dict[str, str]) -> SweepJob:
    name, started = f"job {job.directory.name}", monotonic()
    try:
        pipeline = run_job(arguments, command, job)
    except Exception as error:  # of this job: the others run all the same
        line, code = explained(error)
        say(f"{name}: {line}", code)
        return SweepJob(job.directory, values, str(error) or type(error).__name__)
    finally:
        route_logs(None)
    from fedlite.report.write import load_report

    report = load_report(pipeline.run.file("report.json")) if "report" in command.stages else None
    said = _came_to(report) if report else _last_score(pipeline)
    print(f"{name}  {said}  {human_seconds(monotonic() - started)}", flush=True)
    return SweepJob(job.directory, values, report=report)


def _came_to(report: Report) -> str:
    metric = metric_of(report)
    score = score_in(report, "Final", metric)
    said = []
    if score is not None:
        said.append(f"{tested_on(report)} {METRIC_NAMES[metric]} {score_text(score, metric)}")
    if is_private(report["privacy"]):
        said.append(f"epsilon {epsilons_text(report['privacy'])}")
    return "  ".join(said)


def _last_score(pipeline: "Pipeline") -> str:
    done, dataset = pipeline.run.facts, pipeline.config.dataset
    facts = [done[name] for name in MODEL_STAGES.values() if name in done]
    if not facts:
        return "done"
    metric, where = dataset.metric, tested_words(dataset.evaluate_on)
    score = score_text(facts[-1]["evaluation"][metric], metric)
    return f"{where} {METRIC_NAMES[metric]} {score}"


@contextmanager
def _told_how_the_sweep_goes_on(
    command: str, options: Sequence[str], folder: Path
) -> Iterator[None]:
    """Within, Ctrl-C gets a note with the sweep's directory and the command that goes on."""
    try:
        yield
    except KeyboardInterrupt as error:
        kept = (text for text in options if key_of(text) not in (RUN_DIR, RESUME))
        words = ["fedlite", command, "-m", f"{RUN_DIR}={folder}", *map(_anywhere, kept)]
        words += [f"{RESUME}=true"] if command == "simulate" else []
        error.__notes__ = [
            f"the sweep lies in {folder}",
            f"go on with: {shlex.join(words)}",
        ]
        raise


def _anywhere(option: str) -> str:
    """An option of a sweep that means the same from any working directory."""
    name, values = option.partition("=")[0], values_swept(option)
    return f"{name}={','.join(text.partition('=')[2] for text in portable(values))}"
