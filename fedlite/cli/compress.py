"""fedlite compress: make, judge and measure the files that ship.

usage: fedlite compress DIR [option=value ...]

  compress.norms=fold         exchange norms that cost time for none
  compress.ratio=R            share of channels pruned; '+compress.layer_ratios=
                              {LAYER: R}' for single layers
  compress.criterion=C        l2, l1, taylor or random: the weakest channels
  compress.schedule=S         one_shot, or iterative: cut and recover in turns
  compress.sparsity=S         share of weights set to zero: a smaller gzip only
  compress.recovery_steps=N   public batches; compress.recovery_from=student|
                              teacher
  compress.quantization=Q     static, dynamic, weight_only (compress.bits=8|4),
                              fp16, qat, none
  compress.formats=[...]      onnx, litert, executorch, coreml; the converter
                              may live elsewhere: '+compress.converters.litert=
                              PYTHON'
  compress.max_accuracy_drop=D, compress.min_snr_db=S
                              worse files are refused; the report says why
  compress.signing_key=FILE   ed25519 key (PEM) that signs the folder

  compress=search             search these options: compress.search.trials=N
  compress.target.latency_ms=T, compress.target.bytes=B
                              limits that the search has to reach

Works on public data alone. Every other option of `fedlite simulate` is taken
too, as far as the run's training is not changed by it.
"""

from fedlite.cli.jobs import StageCommand, run_command
from fedlite.cli.parse import Arguments
from fedlite.cli.show import show_report


def run(arguments: Arguments) -> int:
    """Run the compression again, and what follows from it."""
    stages = ("compress", "evaluate", "report")
    command = StageCommand(stages, show_report, on_a_run=True, again="compress")
    return run_command(arguments, command)
