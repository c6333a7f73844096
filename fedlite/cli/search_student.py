"""fedlite search-student: find a student within latency and size limits.

usage: fedlite search-student [option=value ...]

  search_student.trials=N     students tried; search_student.max_seconds=S
  search_student.target.latency_ms=T, search_student.target.bytes=B
                              limits, measured on the file that would ship
  search_student.blocks=[...] plain, inverted_residual, channel_shuffle
  search_student.widths=[...], .depths=[...], .kernel_sizes=[...], .stages=[...]
                              what a student may be built of
  search_student.steps=N      batches of public distillation that score one
  search_student.max_accuracy_drop=D
                              the smallest this close to the best one wins
  compress.quantization=Q     the form that is measured (compress.norms=fold)

Trains on public data alone. The configured student is the first trial, and wins
where none is better. The winner is run.dir/search_student/student.yaml;
`fedlite simulate student=FILE` takes it.
"""

from fedlite.cli.jobs import StageCommand, run_command
from fedlite.cli.parse import Arguments
from fedlite.cli.show import show_search


def run(arguments: Arguments) -> int:
    """Run the teacher's stage, and the search after it."""
    return run_command(arguments, StageCommand(("search_student",), show_search))
