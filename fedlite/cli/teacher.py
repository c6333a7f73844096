"""fedlite teacher: train (or load) the teacher only.

usage: fedlite teacher [option=value ...] [-m] [--cfg job]
"""

from fedlite.cli.jobs import StageCommand, run_command
from fedlite.cli.parse import Arguments
from fedlite.cli.show import show_accuracy


def run(arguments: Arguments) -> int:
    """Run the first stage."""
    return run_command(arguments, StageCommand(("teacher",), show_accuracy))
