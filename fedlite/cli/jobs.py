"""Commands that run stages: one job, or a sweep of them, composed and checked before any begins."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedlite.base.errors import UsageError
from fedlite.base.logs import route_logs
from fedlite.cli.go_on import told_how_to_go_on
from fedlite.cli.parse import CONFIG_FLAGS, Arguments, options_of_run

if TYPE_CHECKING:
    from fedlite.runs.classes import ClassRuns
    from fedlite.runs.config import Config
    from fedlite.runs.pipeline import Pipeline

SWEEP_FLAGS = ("-m", "--multirun")
FLAGS = (*SWEEP_FLAGS, "--cfg", "--resolve", *CONFIG_FLAGS)


@dataclass(frozen=True)
class StageCommand:
    """A command that runs stages of the table.

    As a rule the last of ``stages`` is run with all that it needs; ``on_a_run`` says that a run
    must be there, and ``stages`` alone are run on it. ``again`` is the stage that is run although
    it is done; ``show`` prints what came of it.
    """

    stages: Sequence[str]
    show: "Callable[[Pipeline], None]"
    on_a_run: bool = False
    again: str | None = None


@dataclass(frozen=True)
class Job:
    """One run that a command makes or goes on with: its options, as typed and checked."""

    options: list[str]
    config: "Config"

    @property
    def directory(self) -> Path:
        """Where it runs."""
        return Path(self.config.run.dir)


def run_command(arguments: Arguments, command: StageCommand) -> int:
    """Compose the configuration and run the command's stages; its exit code.

    Raises:
        FedliteError: of the one job; those of a sweep are said as they come.
    """
    arguments.refuse_flags(FLAGS)
    sweeps = any(flag in SWEEP_FLAGS for flag in arguments.flags)
    if sweeps and command.on_a_run:
        raise UsageError(f"fedlite {arguments.command}: works on one run; leave out -m")
    resumes = arguments.command != "simulate"
    options = options_of_run(arguments, existing=command.on_a_run, resumes=resumes)
    from fedlite.runs.compose import expand_files

    options = expand_files(options)
    if any(flag.split("=")[0] == "--cfg" for flag in arguments.flags):
        return _print_configuration(arguments, options)
    if sweeps:
        from fedlite.cli.sweep import run_sweep

        return run_sweep(arguments, command, options)
    job = checked(options)
    from fedlite.runs.class_jobs import has_classes

    if has_classes(job.config):
        from fedlite.cli.show_classes import show_classes

        show_classes(run_class_job(arguments, command, job), command.show)
    else:
        command.show(run_job(arguments, command, job))
    return 0


def checked(options: Sequence[str], directory: Path | None = None) -> Job:
    """A job whose options are right, as far as they say by themselves.

    Args:
        options: as typed.
        directory: where it runs, instead of where they say.

    Raises:
        UsageError: they are not.
    """
    from fedlite.runs.class_jobs import class_jobs, has_classes
    from fedlite.runs.compose import compose_config
    from fedlite.runs.directory import has_begun
    from fedlite.runs.inputs import check_inputs

    config = compose_config(options)
    where = (directory or Path(config.run.dir)).resolve()
    if has_classes(config):
        class_jobs(config, options, where)
    if not has_begun(where):
        check_inputs(config)
    return Job(list(options), replace(config, run=replace(config.run, dir=str(where))))


def run_job(arguments: Arguments, command: StageCommand, job: Job) -> "Pipeline":
    """Run the stages of one job.

    Raises:
        FedliteError: what a person can put right; what is finished stays on disk.
    """
    with _begun(arguments, job) as resume:
        from fedlite.runs.execute import execute

        stages = _stages(command, job)
        return execute(job.config, job.options, stages, resume=resume, again=command.again)


def run_class_job(arguments: Arguments, command: StageCommand, job: Job) -> "ClassRuns":
    """:func:`run_job` of a run of several classes of students.

    Raises:
        FedliteError: what a person can put right; what is finished stays on disk.
    """
    with _begun(arguments, job) as resume:
        from fedlite.runs.classes import execute_classes

        stages = _stages(command, job)
        return execute_classes(job.config, job.options, stages, resume=resume, again=command.again)


@contextmanager
def _begun(arguments: Arguments, job: Job) -> Iterator[bool]:
    """Within, the job has its directory; whether it goes on with a run there."""
    from fedlite.runs.directory import make_directory

    resume = job.config.run.resume or arguments.command != "simulate"
    with told_how_to_go_on(arguments.command, job.options, job.directory):
        make_directory(job.directory, fresh=not resume)
        yield resume


def _stages(command: StageCommand, job: Job) -> Sequence[str]:
    """The stages that a command runs. From here on logs lie in the job's directory: what runs
    stages is imported, and libraries add handlers as they are."""
    from fedlite.runs.directory import LOG_FILE
    from fedlite.runs.stages.table import with_needed

    route_logs(job.directory / LOG_FILE)
    return command.stages if command.on_a_run else with_needed(command.stages[-1])


def _print_configuration(arguments: Arguments, options: Sequence[str]) -> int:
    from omegaconf import OmegaConf

    from fedlite.runs.compose import composed

    if "--cfg=job" not in arguments.flags:
        raise UsageError("--cfg: give --cfg job, which prints the options that are composed")
    if any(flag in SWEEP_FLAGS for flag in arguments.flags):
        raise UsageError("--cfg job: prints the options of one run; leave out -m")
    print(OmegaConf.to_yaml(composed(options), resolve="--resolve" in arguments.flags))
    return 0
