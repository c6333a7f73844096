"""What each epsilon buys, by who is trusted: accuracy against epsilon for up to three mechanisms.

    python simulations/privacy_sweep.py [mechanisms=local,aggregate,client] [epsilons=1,2,4,8]
                                        [seeds=0] [output=DIR] [override ...]

`local` and `aggregate` are example-level under the two models of trust, `client` is client-level.
Overrides are those of `fedlite federate`; with a mechanism's name in front, or `reference.` for the
run without privacy, they are for its runs alone. The picture in docs/results.md:

    python simulations/privacy_sweep.py mechanisms=local,aggregate,client \\
        local.experiment=fashion_mnist_local aggregate.experiment=fashion_mnist_aggregate \\
        client.experiment=fashion_mnist_client reference.experiment=fashion_mnist_local \\
        reference.federation.learning_rate=0.04 reference.federation.rounds=150

The reference takes smaller steps by default, since its gradients are not clipped. Every point is a
run of its own below the output directory; a study that was broken off goes on where it stopped.
"""

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import read_json, write_whole
from fedlite.cli.main import run
from fedlite.report.charts import accuracy_against_epsilon
from fedlite.report.drawing import save_figure
from fedlite.report.table import plain_table
from fedlite.report.together import together_sentences
from fedlite.report.words import NOT_PRIVATE, epsilon_text, percent
from fedlite.runs.directory import STATE_FILE
from fedlite.runs.together import spent_together

REFERENCE = "reference"
MECHANISMS = {  # name -> (its option, the key of its epsilon, its label)
    "local": ("privacy=example", "privacy.epsilon", "noise on every device"),
    "aggregate": ("privacy=aggregate", "privacy.epsilon", "noise complete in the sum"),
    "client": ("privacy=client", "privacy.client.epsilon", "client-level, trusted server"),
    REFERENCE: ("privacy=none", "", NOT_PRIVATE),
}
REFERENCE_DEFAULT = "federation.learning_rate=0.1"
DEFAULTS = {
    "mechanisms": "local",
    "epsilons": "1,2,4,8",
    "seeds": "0",
    "output": "outputs/privacy_sweep",
}
SET_BY_THE_STUDY = ("privacy", "privacy.unit", "privacy.trust", "privacy.epsilon", "seed")


@dataclass(frozen=True)
class Point:
    """One run of the study; ``epsilon`` is None for the run without privacy."""

    mechanism: str
    epsilon: float | None
    seed: int
    output: Path
    options: tuple[str, ...]

    @property
    def directory(self) -> Path:
        """The run's own directory."""
        budget = "" if self.epsilon is None else f"-epsilon-{self.epsilon:g}"
        return self.output / f"{self.mechanism}{budget}-seed-{self.seed}"

    @property
    def overrides(self) -> list[str]:
        """The options of this run."""
        group, epsilon_key, _ = MECHANISMS[self.mechanism]
        budget = [] if self.epsilon is None else [f"{epsilon_key}={self.epsilon:g}"]
        directory = [f"run.dir={self.directory}", "run.resume=true"]
        return [*self.options, group, *budget, f"seed={self.seed}", *directory]


@dataclass(frozen=True)
class Result:
    """What one run came to; ``spent`` is its epsilon, None without privacy."""

    point: Point
    public_student: float
    federated_student: float
    spent: float | None
    seconds: float


def parse_arguments(arguments: list[str]) -> list[Point]:
    """The points of the study, in the order they are run.

    Raises:
        UsageError: an epsilon or seed that is no number, an unknown mechanism, or an option that
            the study sets itself.
    """
    own, options = dict(DEFAULTS), {name: list[str]() for name in MECHANISMS}
    options[REFERENCE].append(REFERENCE_DEFAULT)
    for argument in arguments:
        key, _, value = argument.partition("=")
        prefix, _, rest = argument.partition(".")
        if key in own:
            own[key] = value
            continue
        targets, text = ([prefix], rest) if prefix in MECHANISMS else (MECHANISMS, argument)
        if _key(text) in SET_BY_THE_STUDY or _key(text).startswith("run.") or text == "-m":
            raise UsageError(f"{argument}: the study sets this; see mechanisms, epsilons, output")
        for name in targets:
            options[name] = [kept for kept in options[name] if _key(kept) != _key(text)] + [text]
    try:
        epsilons = sorted({float(text) for text in own["epsilons"].split(",")})
        seeds = [int(text) for text in own["seeds"].split(",")]
    except ValueError as error:
        raise UsageError(f"epsilons and seeds: numbers with commas between ({error})") from error
    mechanisms = own["mechanisms"].split(",")
    if unknown := [name for name in mechanisms if name not in MECHANISMS or name == REFERENCE]:
        raise UsageError(f"mechanisms={unknown[0]}: must be among local, aggregate, client")
    output = Path(own["output"]).expanduser().absolute()
    return [
        Point(name, epsilon, seed, output, tuple(options[name]))
        for seed in seeds
        for name in (*mechanisms, REFERENCE)
        for epsilon in (epsilons if name != REFERENCE else [None])
    ]


def _key(override: str) -> str:
    return override.partition("=")[0]


def read_result(point: Point) -> Result:
    """The accuracies and the epsilon that a finished run wrote down."""
    stages = read_json(point.directory / STATE_FILE)["stages"]
    last = stages["federate"]["history"][-1]
    spent = last["client_level_epsilon"] if point.mechanism == "client" else None
    if last["epsilon"]:
        spent = last["epsilon"]["max"]
    return Result(
        point,
        stages["warm_start"]["evaluation"]["accuracy"],
        stages["federate"]["evaluation"]["accuracy"],
        spent,
        stages["federate"]["seconds"],
    )


def write_results(results: list[Result], output: Path) -> None:
    """Draw the picture and write the CSV into ``output``."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        if result.point.epsilon is not None:
            label = MECHANISMS[result.point.mechanism][2]
            curves.setdefault(label, []).append((result.point.epsilon, result.federated_student))
    public = [result.public_student for result in results]
    free = [result.federated_student for result in results if result.point.epsilon is None]
    figure = accuracy_against_epsilon(curves, sum(public) / len(public), sum(free) / len(free))
    save_figure(figure, output / "accuracy_against_epsilon.png")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = ("public_student", "federated_student", "seconds")
    writer.writerow(["mechanism", "epsilon", "seed", "epsilon_spent", *columns])
    for one in results:
        values = [one.public_student, one.federated_student, round(one.seconds, 1)]
        point = one.point
        writer.writerow([point.mechanism, point.epsilon, point.seed, one.spent, *values])
    write_whole(output / "accuracy_against_epsilon.csv", buffer.getvalue())


def study(arguments: list[str], console: Console) -> int:
    """Run all points, then draw; returns the exit code of the first run that failed, else 0."""
    points = parse_arguments(arguments)
    output, results = points[0].output, []
    for number, point in enumerate(points, 1):
        console.rule(Text(f"{number}/{len(points)}  {point.directory.name}"))
        code = run(["federate", *point.overrides])
        if code != 0:
            console.print(f"{point.directory.name} failed; finished points are kept in {output}")
            return code
        results.append(read_result(point))
    write_results(results, output)
    table = plain_table("What each epsilon buys")
    for column in ("Mechanism", "Budget", "Spent", "Seed", "Public only", "Federated"):
        table.add_column(column, justify="left" if column == "Mechanism" else "right")
    for result in results:
        budget, spent = result.point.epsilon, result.spent
        table.add_row(
            MECHANISMS[result.point.mechanism][2],
            "–" if budget is None else f"{budget:g}",
            "–" if spent is None else epsilon_text(spent),
            str(result.point.seed),
            percent(result.public_student),
            percent(result.federated_student),
        )
    console.rule()
    console.print(table)
    for sentence in together_sentences(spent_together(point.directory for point in points)):
        console.print(Text(sentence))
    console.print(Text(f"\nWritten to {output}/accuracy_against_epsilon.png and .csv"))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(study(sys.argv[1:], Console()))
    except FedliteError as error:
        print(f"privacy_sweep: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
