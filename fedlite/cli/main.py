"""``fedlite <command> [options]``: finds the command's module and runs it."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from fedlite.base.cache import cache_folder
from fedlite.base.errors import UsageError
from fedlite.base.logs import route_logs
from fedlite.base.version import __version__
from fedlite.cli.errors import guarded
from fedlite.cli.help import COMMANDS, command_help, general_help
from fedlite.cli.parse import Arguments, parse


class Command(Protocol):
    """A module of ``fedlite.cli``; its docstring is its help screen."""

    def run(self, arguments: Arguments) -> int:
        """Do it; the exit code."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 failed, 2 wrong usage."""
    pictures = Path(cache_folder()).expanduser() / "matplotlib"
    os.environ.setdefault("MPLCONFIGDIR", str(pictures))  # it would write to the home itself
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every foreseeable error is one line on stderr."""
    route_logs(None)  # until there is a run directory with a log file
    return guarded(lambda: _dispatch(arguments))


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
    module = importlib.import_module(f"fedlite.cli.{command.replace('-', '_')}")
    return cast(Command, module).run(parse(command, rest))
