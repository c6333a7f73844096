"""What each epsilon buys: accuracy against epsilon, beside public-only and non-private training.

    python simulations/privacy_sweep.py [epsilons=1,2,4,8] [seeds=0] [output=DIR] [override ...]

Overrides are those of `fedlite simulate`, such as `experiment=fashion_mnist`; with `reference.` in
front they are for the run without privacy alone. That run takes smaller steps by default, since its
gradients are not clipped: `reference.federation.learning_rate=0.2`. Every point is a run of its own
below the output directory; a study that was broken off goes on where it stopped.
"""

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fedlite.cli import run
from fedlite.errors import FedliteError, UsageError
from fedlite.files import write_whole
from fedlite.tracking.pictures import accuracy_against_epsilon, save_figure
from fedlite.tracking.report import load_report
from fedlite.tracking.table import plain_table
from fedlite.tracking.words import MODELS, NOT_PRIVATE, Report, epsilon_text, percent

SHOWN = ("public_student", "federated_student", "quantized_student")
REFERENCE = "reference."  # marks overrides of the run without privacy
REFERENCE_DEFAULT = "federation.learning_rate=0.2"
DEFAULTS = {"epsilons": "1,2,4,8", "seeds": "0", "output": "outputs/privacy_sweep"}


@dataclass(frozen=True)
class Point:
    """One run of the study; ``epsilon`` is None for the run without privacy."""

    epsilon: float | None
    seed: int
    directory: Path
    shared: list[str]

    @property
    def overrides(self) -> list[str]:
        """The options of this run."""
        if self.epsilon is None:
            own = [text.removeprefix(REFERENCE) for text in self.shared if _is_reference(text)]
            privacy = ["privacy=none", *({_key(text): text for text in own}.values())]
        else:
            own, privacy = [], [f"privacy.epsilon={self.epsilon:g}"]
        replaced = {_key(text) for text in own}
        kept = [t for t in self.shared if not _is_reference(t) and _key(t) not in replaced]
        directory = [f"run.dir={self.directory}", "run.resume=true"]
        return [*kept, *privacy, f"seed={self.seed}", *directory]


def _key(override: str) -> str:
    return override.partition("=")[0]


def _is_reference(override: str) -> bool:
    return override.startswith(REFERENCE)


def parse_arguments(arguments: list[str]) -> tuple[list[Point], Path]:
    """The points and the output directory.

    Raises:
        UsageError: an epsilon or seed that is no number, or an option that the study sets itself.
    """
    own, shared = dict(DEFAULTS), [REFERENCE + REFERENCE_DEFAULT]
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in own:
            own[key] = value
        elif key in ("privacy", "privacy.unit", "privacy.epsilon", "seed") or argument == "-m":
            raise UsageError(f"{argument}: the study sets this; give epsilons=1,2,4 or seeds=0,1")
        elif key.startswith("run."):
            raise UsageError(f"{argument}: the study sets this; give output=DIR")
        else:
            shared.append(argument)
    try:
        epsilons = [float(text) for text in own["epsilons"].split(",")]
        seeds = [int(text) for text in own["seeds"].split(",")]
    except ValueError as error:
        raise UsageError(f"epsilons and seeds: numbers with commas between ({error})") from error
    output = Path(own["output"]).expanduser().absolute()
    points = [
        Point(epsilon, seed, output / f"{_name(epsilon)}-seed-{seed}", shared)
        for seed in seeds
        for epsilon in (*sorted(set(epsilons)), None)
    ]
    return points, output


def _name(epsilon: float | None) -> str:
    return "not-private" if epsilon is None else f"epsilon-{epsilon:g}"


def _cells(point: Point, report: Report) -> list[str]:
    units = report["privacy"]["units"]
    spent = epsilon_text(units[0]["epsilon_max"]) if units else NOT_PRIVATE
    budget = "–" if point.epsilon is None else f"{point.epsilon:g}"
    accuracies = [percent(report["models"][name]["accuracy"]) for name in SHOWN]
    return [budget, spent, str(point.seed), *accuracies]


def write_results(results: list[tuple[Point, Report]], output: Path) -> None:
    """Draw the picture and write the CSV into ``output``."""
    accuracy = {
        name: [(p.epsilon, report["models"][name]["accuracy"]) for p, report in results]
        for name in SHOWN
    }
    private = [(e, value) for e, value in accuracy["federated_student"] if e is not None]
    public = [value for _, value in accuracy["public_student"]]
    free = [value for e, value in accuracy["federated_student"] if e is None]
    figure = accuracy_against_epsilon(
        private, sum(public) / len(public), sum(free) / len(free) if free else None
    )
    save_figure(figure, output / "accuracy_against_epsilon.png")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["epsilon", "seed", "epsilon_spent", *SHOWN])
    for point, report in results:
        units = report["privacy"]["units"]
        values = [report["models"][name]["accuracy"] for name in SHOWN]
        spent = units[0]["epsilon_max"] if units else None
        writer.writerow([point.epsilon, point.seed, spent, *values])
    write_whole(output / "accuracy_against_epsilon.csv", buffer.getvalue())


def study(arguments: list[str], console: Console) -> int:
    """Run all points, then draw; returns the exit code of the first run that failed, else 0."""
    points, output = parse_arguments(arguments)
    results = []
    for number, point in enumerate(points, 1):
        console.rule(Text(f"{number}/{len(points)}  {point.directory.name}"))
        code = run(["simulate", *point.overrides])
        if code != 0:
            console.print(f"{point.directory.name} failed; finished points are kept in {output}")
            return code
        results.append((point, load_report(point.directory / "report.json")))
    write_results(results, output)
    table = plain_table("What each epsilon buys")
    for column in ("Budget", "Spent", "Seed", *(MODELS[name] for name in SHOWN)):
        table.add_column(column, justify="right")
    for point, report in results:
        table.add_row(*_cells(point, report))
    console.rule()
    console.print(table)
    console.print(Text(f"\nWritten to {output}/accuracy_against_epsilon.png and .csv"))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(study(sys.argv[1:], Console()))
    except FedliteError as error:
        print(f"privacy_sweep: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
