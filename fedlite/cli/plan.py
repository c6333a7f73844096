"""fedlite plan: what a configuration will spend, before anything is trained.

usage: fedlite plan [DIR] [option=value ...] [output=plan.png]

  output=FILE.png           draws epsilon by round there
  DIR                       the options of the run there; those given again win
  privacy.epsilon=E         budget; privacy.noise_multiplier=Z: what that costs
  privacy.unit=U            example, client, both; privacy.trust=local|aggregate
  privacy.sample_rate=Q     Poisson probability of each example in a step
  privacy.client.epsilon=E  budget of the client level
  federation.rounds=N       rounds; federation.fraction=F: share asked in each
  federation.num_clients=N  clients; with it no data set is read, as a rule
  fleet=F                   phones, ...: time and energy of the rounds there

Takes every option of `fedlite simulate`. Prints the noise multiplier, what each
client adds of it, and epsilon by round: for the chosen unit and trust first,
then for the others at the same budget. Trains and charges nothing. With a fleet
the data set is read, for the shape of its examples.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedlite.base.errors import UsageError
from fedlite.base.files import user_path
from fedlite.cli.parse import Arguments, options_of_run

if TYPE_CHECKING:
    from fedlite.runs.config import Config


def run(arguments: Arguments) -> int:
    """Print what a configuration will spend, and its alternatives; draw it where asked to."""
    arguments.refuse_flags()
    output = arguments.take("output").get("output")
    options = options_of_run(arguments, existing=bool(arguments.words))
    from fedlite.runs.class_jobs import has_classes
    from fedlite.runs.compose import compose_config

    config = compose_config(options)
    if has_classes(config):
        return _plan_classes(config, options, output)
    from fedlite.cli.show_plan import show_forecast  # what accounts takes seconds to import
    from fedlite.runs.forecast import forecast

    found = forecast(config)
    show_forecast(found)
    if output is not None:
        from fedlite.cli.draw_plan import draw_forecast

        draw_forecast(found, user_path(output))
    return 0


def _plan_classes(config: "Config", options: Sequence[str], output: str | None) -> int:
    """A forecast for each class of students: each is planned for its own clients."""
    if output is not None:
        raise UsageError(
            f"output={output}: draws one class of students; add federation.class_name=NAME"
        )
    from fedlite.cli.show_plan import show_forecast  # as above
    from fedlite.runs.class_jobs import class_jobs
    from fedlite.runs.forecast import forecast

    jobs = class_jobs(config, options, Path(config.run.dir))
    forecasts = {name: forecast(job.config) for name, job in jobs.items()}
    for name, found in forecasts.items():
        print(f"Class {name}: student {found.config.student.name}")
        show_forecast(found)
        print()
    return 0
