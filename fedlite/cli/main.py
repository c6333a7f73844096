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
from fedlite.base.nearest import did_you_mean
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
    command, *rest = arguments or ["help"]
    if command in ("--help", "-h", "help"):
        asked = [word for word in rest if not word.startswith("-")]
        print(command_help(_known(asked[0])) if asked else general_help())
        return 0
    if command == "--version":
        print(f"fedlite {__version__}")
        return 0
    if command in ("--completion", "--complete"):
        return _complete(command, rest)
    _known(command)
    if "--help" in rest or "-h" in rest or rest == ["help"]:
        print(command_help(command))
        return 0
    module = importlib.import_module(f"fedlite.cli.{command.replace('-', '_')}")
    return cast(Command, module).run(parse(command, rest))


def _known(command: str) -> str:
    """The command, if there is one of that name.

    Raises:
        UsageError: there is none; names the likeliest.
    """
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS)
        raise UsageError(
            f"unknown command '{command}'{hint or ';'} commands: {', '.join(COMMANDS)}"
        )
    return command


def _complete(flag: str, words: list[str]) -> int:
    from fedlite.cli.completion import SCRIPTS, offered

    if flag == "--complete":
        print(*offered(words), sep="\n")
        return 0
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise UsageError(f"--completion: give one of {', '.join(SCRIPTS)}")
    print(SCRIPTS[words[0]], end="")
    return 0
