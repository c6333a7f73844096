"""fedlite tune: choose the federation's options on public data, free of epsilon.

usage: fedlite tune [option=value ...]

  tune.trials=N               federations tried, the hand-set options first
  tune.max_seconds=S          of all trials; the running one is finished
  tune.confirmations=N        public parts on which the best trial must beat the
                              hand-set options, beyond chance
  tune.learning_rate_factors=[...], .clip_factors, .sample_rate_factors,
  .rounds_factors             of the hand-set values
  tune.momentums=[...], .local_steps=[...]
                              values that are tried
  tune.client_fraction=F, .max_clients=N
                              how public data is divided

Each trial is the run's own federation, on public data divided among simulated
clients, with the run's budget, trust and cohort and its noise in proportion. No
private example is used and no client's ledger is charged. The same command with
run.dir=DIR goes on where it was broken off, or further with more trials. What
was chosen is run.dir/tune/experiment.yaml;
`fedlite simulate experiment=FILE` takes it.
"""

from fedlite.cli.jobs import StageCommand, run_command
from fedlite.cli.parse import Arguments
from fedlite.cli.show import show_tuning


def run(arguments: Arguments) -> int:
    """Run the stage that tunes."""
    return run_command(arguments, StageCommand(("tune",), show_tuning))
