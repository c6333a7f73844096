"""``fedlite <command> [hydra overrides]``: the command line, its help and its errors."""

import errno
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fedlite import __version__
from fedlite.compose import conf_dir, expand_files
from fedlite.config_checks import parse_config
from fedlite.errors import FedliteError, UsageError
from fedlite.help import COMMANDS, command_help, general_help
from fedlite.logs import route_logs

log = logging.getLogger(__name__)

HYDRA_FLAGS = ("-m", "--multirun", "--cfg", "--resolve", "--package", "--info", "--hydra-help")
ON_A_RUN = ("compress", "evaluate", "report", "audit", "demo")  # commands that need a run there is
SHOWN = 5  # classes printed for each predicted example
DEMO_PATHS = ("output", "ort")  # options of `fedlite demo` beside those of the run


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed, 2 wrong usage."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every foreseeable error is one line on stderr."""
    route_logs(None)  # until there is a run directory with a log file
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        return _say("interrupted; finished stages and rounds are kept, run.resume=true goes on", 1)
    except FedliteError as error:
        return _say(str(error), error.exit_code)
    except (HydraException, OmegaConfBaseException) as error:
        return _say(_hydra_reason(error), UsageError.exit_code)
    except OSError as error:
        log.exception("operating system error")
        where = f"{error.filename}: " if error.filename else ""
        hint = "; free some space" if error.errno == errno.ENOSPC else ""
        return _say(f"{where}{error.strerror or error}{hint}", 1)
    except Exception as error:  # a bug: one line for the person, all of it in the log
        log.exception("unexpected error")
        return _say(f"unexpected {type(error).__name__}: {error} (traceback: {_log_path()})", 1)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(general_help())
        return 0
    if arguments[0] == "--version":
        print(f"fedlite {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        raise UsageError(f"unknown command '{command}'; commands: {', '.join(COMMANDS)}")
    if "--help" in rest or "-h" in rest:
        print(command_help(command))
        return 0
    if command == "ledger":
        return _ledger(rest)
    if command == "predict":
        return _predict(_plain_options(rest, required=("model", "input")))
    if command == "verify":
        return _verify(rest)
    if command == "demo":
        return _demo(rest)
    if command == "plan":
        return _plan(rest)
    return _run_hydra(command, rest)


def _ledger(arguments: list[str]) -> int:
    """Print what the ledgers of a directory hold."""
    from rich.console import Console

    from fedlite.ledger_view import show_ledgers

    given = [text for text in arguments if text.startswith(("client=", "delta="))]
    options = dict(text.split("=", 1) for text in given)
    directories = [text for text in arguments if text not in given]
    if len(directories) != 1 or directories[0].startswith("-"):
        raise UsageError(
            f"fedlite ledger: give one directory, not '{' '.join(directories)}':"
            " fedlite ledger DIR [client=N] [delta=D]"
        )
    try:
        delta = float(options["delta"]) if "delta" in options else None
    except ValueError as error:
        raise UsageError(f"delta={options['delta']}: is not a number") from error
    show_ledgers(Path(directories[0]), Console(), client=options.get("client"), delta=delta)
    return 0


def _predict(options: dict[str, str]) -> int:
    """Print the likeliest classes of every example in a file."""
    from fedlite.compress.predict import predict

    for prediction in predict(Path(options["model"]), Path(options["input"])):
        likeliest = "  ".join(f"{name} {p:.3f}" for name, p in prediction.probabilities[:SHOWN])
        print(f"{prediction.source}: {likeliest}")
    return 0


def _verify(arguments: list[str]) -> int:
    """Print what holds of a deployable folder; every fault is a line on stderr."""
    from fedlite.compress.verify import verify_bundle

    keys = [text.split("=", 1)[1] for text in arguments if text.startswith("key=")]
    folders = [text for text in arguments if not text.startswith("key=")]
    if len(folders) != 1 or folders[0].startswith("-") or len(keys) > 1 or "" in keys:
        raise UsageError("fedlite verify: give one folder: fedlite verify DIR/deploy [key=FILE]")
    verdict = verify_bundle(Path(folders[0]), Path(keys[0]) if keys else None)
    for fault in verdict.faults:
        _say(f"{folders[0]}: {fault}", 1)
    for line in verdict.holds:
        print(f"{folders[0]}: {line}")
    return 1 if verdict.faults else 0


def _demo(arguments: list[str]) -> int:
    """Write the page on which a run's model answers in the browser."""
    from fedlite.demo.command import run_demo

    given = {_key(a): a.partition("=")[2] for a in arguments if _key(a) in DEMO_PATHS}
    if missing := [key for key, value in given.items() if not value]:
        raise UsageError(f"{missing[0]}=: missing folder; give {missing[0]}=DIR")
    overrides = [text for text in arguments if _key(text) not in DEMO_PATHS]
    if flags := [text for text in overrides if text.startswith("-")]:
        raise UsageError(f"fedlite demo: unknown flag '{flags[0]}'; it takes options only")
    output, ort = (Path(given[key]) if key in given else None for key in DEMO_PATHS)
    run_demo(_with_saved_overrides("demo", overrides), output, ort)
    return 0


def _plan(arguments: list[str]) -> int:
    """Print what a configuration will spend: no training, no run directory, no Hydra job."""
    from fedlite.planning import PICTURE, run_plan

    if flags := [text for text in arguments if text.startswith("-")]:
        raise UsageError(f"fedlite plan: unknown flag '{flags[0]}'; it takes options only")
    outputs = [text.split("=", 1)[1] for text in arguments if text.startswith("output=")]
    if "" in outputs:
        raise UsageError("output=: missing file; give output=FILE.png")
    overrides = [text for text in arguments if not text.startswith("output=")]
    run_plan(_with_saved_overrides("plan", overrides), Path([PICTURE, *outputs][-1]))
    return 0


def _run_hydra(command: str, arguments: list[str]) -> int:
    """Compose the configuration with Hydra (one job or a sweep) and run ``command`` on it."""
    unknown = [a for a in arguments if a.startswith("-") and a.split("=")[0] not in HYDRA_FLAGS]
    if unknown:
        raise UsageError(f"unknown flag '{unknown[0]}'; flags: {' '.join(HYDRA_FLAGS)}")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach `run`, which prints one line
    errors: list[BaseException] = []

    def job(composed: DictConfig) -> None:
        try:
            _run_job(command, composed)
        except FedliteError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                _say(f"job {HydraConfig.get().job.num}: {error}", error.exit_code)
            errors.append(error)
        except BaseException as error:  # Hydra would print a report of its own
            errors.append(error)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise

    arguments = expand_files(arguments)
    arguments = sorted(arguments, key=_is_override)  # argparse wants all flags on one side
    sys.argv = ["fedlite", *_with_saved_overrides(command, arguments)]
    hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(job)()
    if not errors:
        return 0
    if "-m" in arguments or "--multirun" in arguments:
        return 1
    raise errors[0]


def _run_job(command: str, composed: DictConfig) -> None:
    from fedlite.pipeline import run_command
    from fedlite.run_directory import LOG_FILE

    context = HydraConfig.get()
    run_dir = Path(context.runtime.output_dir).resolve()
    overrides = [str(text) for text in context.overrides.task]
    composed.run.dir = str(run_dir)
    config = parse_config(composed)
    route_logs(run_dir / LOG_FILE)
    if context.mode == RunMode.MULTIRUN:
        print(f"\njob {context.job.num}: {' '.join(overrides)}", flush=True)
    run_command(command, config, overrides)


def _with_saved_overrides(command: str, arguments: list[str]) -> list[str]:
    """On an existing run directory go on with the options it was started with; new ones win."""
    from fedlite.run_directory import OVERRIDES_FILE, load_overrides

    given = {_key(argument): argument for argument in arguments if not argument.startswith("-")}
    if "run.dir" not in given:
        if command in ON_A_RUN:
            raise UsageError(f"fedlite {command}: give the run directory, run.dir=DIR")
        return arguments
    run_dir = Path(str(_values([given["run.dir"]])["run.dir"]))
    has_run = (run_dir / OVERRIDES_FILE).is_file()
    if command in ON_A_RUN and not has_run:
        raise UsageError(f"run.dir={run_dir}: no run there; start one with `fedlite simulate`")
    resumes = command != "simulate" or _values(given.values()).get("run.resume") is True
    if not has_run or not resumes:
        return arguments
    saved = [text for text in load_overrides(run_dir) if _key(text) not in given]
    flags = [text for text in arguments if not _is_override(text)]
    return [*flags, *saved, *filter(_is_override, arguments)]


def _is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")


def _values(overrides: Any) -> dict[str, Any]:
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {override.key_or_group: override.value() for override in parsed}


def _plain_options(arguments: list[str], required: Sequence[str]) -> dict[str, str]:
    """``key=value`` options of a command that needs no configuration."""
    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    unknown = [a for a in arguments if a.split("=", 1)[0] not in required]
    if unknown:
        raise UsageError(f"unknown option '{unknown[0]}'; options: {', '.join(required)}")
    missing = [name for name in required if not options.get(name)]
    if missing:
        raise UsageError(f"missing option: {' '.join(f'{name}=FILE' for name in missing)}")
    return options


def _hydra_reason(error: Exception) -> str:
    """Hydra's message in one line."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    lines = [line.strip() for line in f"{error}\n{cause or ''}".splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("To append", "full_key", "object_type"))]
    return " ".join(kept) + " (see `fedlite <command> --help`)"


def _log_path() -> str:
    handlers = logging.getLogger().handlers
    files = [h.baseFilename for h in handlers if isinstance(h, logging.FileHandler)]
    return files[0] if files else "not written: the run had not started"


def _say(line: str, code: int) -> int:
    """Print one line of error on stderr and hand back the exit code."""
    print(f"fedlite: {' '.join(line.split())}", file=sys.stderr, flush=True)
    return code
