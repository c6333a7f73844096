"""fedlite federate: teacher, public warm start and all federated rounds.

usage: fedlite federate [option=value ...] [-m] [--cfg job]
"""

from fedlite.cli.jobs import StageCommand, run_command
from fedlite.cli.parse import Arguments
from fedlite.cli.show import show_accuracy


def run(arguments: Arguments) -> int:
    """Run the stages up to the federated student."""
    return run_command(arguments, StageCommand(("federate",), show_accuracy))
