"""fedlite evaluate: measure the models of a run on the test set again.

usage: fedlite evaluate DIR [option=value ...]
"""

from fedlite.cli.jobs import StageCommand, run_command
from fedlite.cli.parse import Arguments
from fedlite.cli.show import show_report


def run(arguments: Arguments) -> int:
    """Run the evaluation again, and the report after it."""
    command = StageCommand(("evaluate", "report"), show_report, on_a_run=True, again="evaluate")
    return run_command(arguments, command)
