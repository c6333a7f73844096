"""The help screens: of ``fedlite`` itself, and of each command, from its module's docstring."""

import ast
import textwrap
from pathlib import Path

from fedlite.runs.conf import choices, groups

WIDTH = 80

COMMANDS = (
    "simulate",
    "plan",
    "teacher",
    "federate",
    "compress",
    "search-student",
    "tune",
    "evaluate",
    "report",
    "audit",
    "ledger",
    "device",
    "verify",
    "demo",
    "predict",
    "serve",
)
WITH_ALL_OPTIONS = ("simulate", "teacher", "federate", "evaluate", "report")
MAIN_OPTIONS = (  # of the commands above: shown with their help, in this order
    "run.dir",
    "run.resume",
    "seed",
    "dataset.root",
    "dataset.keys.labels",
    "dataset.size",
    "dataset.metric",
    "dataset.public_size",
    "federation.num_clients",
    "federation.rounds",
    "privacy.epsilon",
    "privacy.sample_rate",
    "engine.num_workers",
    "compress.ratio",
)

OF_A_MAPPING = {"dataset.keys.labels": "column or array of the labels, in data of your own"}


def docstring(command: str) -> str:
    """What the command's module says of it; read, for a module imports what it needs to run."""
    source = Path(__file__).with_name(f"{command.replace('-', '_')}.py").read_text("utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").rstrip()


def summary(command: str) -> str:
    """What the command does, in a line."""
    return docstring(command).splitlines()[0].split(": ", 1)[1].rstrip(".")


def list_groups() -> str:
    """Every group of ``conf/`` that leaves a choice, with its files."""
    files = {name: choices(name) for name in groups()}
    return "\n".join(
        entry(f"{name}=", " | ".join(some), 11) for name, some in files.items() if len(some) > 1
    )


def entry(name: str, text: str, width: int) -> str:
    """A line that continues under its text."""
    return textwrap.fill(
        f"  {name:<{width}} {text}",
        WIDTH,
        subsequent_indent=" " * (width + 3),
        break_long_words=False,
        break_on_hyphens=False,
    )


def general_help() -> str:
    """The screen of ``fedlite --help``."""
    commands = "\n".join(entry(name, summary(name), 14) for name in COMMANDS)
    return f"""fedlite: distil a small student from a shared teacher on private data; ship it.

usage: fedlite <command> [DIR] [option=value ...] [-m] [--cfg job]

commands (`fedlite help <command>`: its options):
{commands}

option groups (choose a file of conf/ by name; all options: simulate --cfg job):
{list_groups()}

examples:
  fedlite simulate federation.num_clients=50 privacy.epsilon=4
  fedlite simulate -m privacy.epsilon=1,2,4,8

DIR is a run directory, also run.dir=DIR, or last: the latest below outputs/.
Completion in bash (zsh, fish): eval "$(fedlite --completion bash)"."""


def command_help(command: str) -> str:
    """The screen of ``fedlite <command> --help``."""
    screen = docstring(command)
    if command not in WITH_ALL_OPTIONS:
        return screen
    from fedlite.base.options import options_of
    from fedlite.runs.config import Config

    said = OF_A_MAPPING | {option.key: option.help for option in options_of(Config)}
    options = "\n".join(entry(key, said[key], 23) for key in MAIN_OPTIONS)
    return f"""{screen}

main options:
{options}

option groups (choose a file of conf/ by name):
{list_groups()}

-m sweeps over comma-separated values, each job in its own directory. --cfg job
prints the composed configuration and runs nothing. --config-dir DIR adds your
own folder like conf/, --config-name NAME starts from DIR/NAME.yaml."""
