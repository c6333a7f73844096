"""fedlite report: write the reports of a run again.

usage: fedlite report DIR [option=value ...]
"""

from fedlite.cli.jobs import StageCommand, run_command
from fedlite.cli.parse import Arguments
from fedlite.cli.show import show_report


def run(arguments: Arguments) -> int:
    """Run the last stage."""
    return run_command(arguments, StageCommand(("report",), show_report, on_a_run=True))
