"""fedlite simulate: all of it: teacher, distillation, compression, report.

usage: fedlite simulate [option=value ...] [-m] [--cfg job]
"""

from fedlite.cli.jobs import StageCommand, run_command
from fedlite.cli.parse import Arguments
from fedlite.cli.show import show_report


def run(arguments: Arguments) -> int:
    """Run every stage."""
    return run_command(arguments, StageCommand(("report",), show_report))
