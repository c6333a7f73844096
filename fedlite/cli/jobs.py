"""Commands that run stages: Hydra composes one job or a sweep, and each job runs them."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fedlite.base.errors import FedliteError
from fedlite.base.logs import route_logs
from fedlite.cli.errors import say
from fedlite.cli.parse import Arguments, options_of_run
from fedlite.runs.compose import expand_files, hydra_errors, parse_config, store_defaults
from fedlite.runs.conf import conf_dir
from fedlite.runs.literal import key_of

if TYPE_CHECKING:
    from fedlite.runs.pipeline import Pipeline

HYDRA_FLAGS = ("-m", "--multirun", "--cfg", "--resolve", "--package", "--info", "--hydra-help")


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


def run_command(arguments: Arguments, command: StageCommand) -> int:
    """Compose the configuration and run the command's stages; its exit code.

    Raises:
        FedliteError: of the one job; those of a sweep are said as they come.
    """
    arguments.refuse_flags(HYDRA_FLAGS)
    resumes = arguments.command != "simulate"
    options = expand_files(options_of_run(arguments, existing=command.on_a_run, resumes=resumes))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach the caller, which prints one line
    errors: list[BaseException] = []

    def job(composed: DictConfig) -> None:
        sweeps = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            _run_job(arguments.command, command, composed)
        except FedliteError as error:
            if sweeps:
                say(f"job {HydraConfig.get().job.num}: {error}", error.exit_code)
            errors.append(error)
        except BaseException as error:  # Hydra would print a report of its own
            errors.append(error)
            if sweeps:
                raise

    store_defaults()
    typed = sys.argv
    sys.argv = ["fedlite", *arguments.flags, *options]
    try:
        with hydra_errors(), _mode_of_flags(options):
            hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(job)()
    finally:
        sys.argv = typed
    if not errors:
        return 0
    if "-m" in arguments.flags or "--multirun" in arguments.flags:
        return 1
    raise errors[0]


@contextmanager
def _mode_of_flags(options: Sequence[str]) -> Iterator[None]:
    """Within, Hydra composes once, a third of a second: it would compose a first time to find out
    whether it sweeps, which the flags say unless ``options`` hold ``hydra.mode``."""
    from hydra._internal.hydra import Hydra

    looks = Hydra.get_mode
    if all(key_of(text) != "hydra.mode" for text in options):
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = looks  # type: ignore[method-assign]


def _run_job(name: str, command: StageCommand, composed: DictConfig) -> None:
    from fedlite.runs.directory import LOG_FILE
    from fedlite.runs.execute import execute
    from fedlite.runs.stages.table import with_needed

    context = HydraConfig.get()
    run_dir = Path(context.runtime.output_dir).resolve()
    overrides = [str(text) for text in context.overrides.task]
    composed.run.dir = str(run_dir)
    config = parse_config(composed)
    route_logs(run_dir / LOG_FILE)
    if context.mode == RunMode.MULTIRUN:
        print(f"\njob {context.job.num}: {' '.join(overrides)}", flush=True)
    pipeline = execute(
        config,
        overrides,
        command.stages if command.on_a_run else with_needed(command.stages[-1]),
        resume=config.run.resume or name != "simulate",
        again=command.again,
    )
    command.show(pipeline)
