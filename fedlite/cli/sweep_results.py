"""What the jobs of a sweep came to, side by side: a table, a picture, files, and what all spent."""

import statistics
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedlite.base.errors import FedliteError
from fedlite.base.files import csv_text, write_json, write_whole
from fedlite.base.records import METRIC_NAMES, Metric
from fedlite.cli.sweep_scores import (
    COLUMNS,
    Column,
    SweepJob,
    difference,
    repeats,
    scores_of,
    spread,
    sweep_metric,
    swept_but_seed,
)
from fedlite.report.judged import ships_public_only
from fedlite.report.parts import plain, table
from fedlite.report.sections import TogetherSection
from fedlite.report.table import plain_table, print_fitting
from fedlite.report.together import NO_JOBS, log_together, together_sentences
from fedlite.report.words import (
    NOT_PRIVATE,
    PUBLIC_MODELS,
    epsilon_text,
    final_model,
    gain_text,
    human_bytes,
    is_private,
    model_labels,
    score_text,
    tested_on,
)
from fedlite.runs.directory import SWEEP_FILE, load_overrides, run_id_of

RESULTS = (*COLUMNS, "Epsilon", "Bytes", "Latency p50")
SPARE = ("Latency p50", "Bytes", "Public only")  # what a narrow terminal does without
NONE = "–"
SHORT = 12  # letters of an option and of its values that stay on one line
BY_SEED = "Differences of the same seeds: their mean, and its 95% interval (Student's t)"


def short_names(options: Sequence[str]) -> list[str]:
    """Each option by its last part, or whole where two options share that part."""
    lasts = [option.rpartition(".")[2] for option in options]
    return [
        last if lasts.count(last) == 1 else option
        for option, last in zip(options, lasts, strict=True)
    ]


def result_cells(group: Sequence[SweepJob], metric: Metric) -> list[str]:
    """The results of jobs that differ in their seed at most, as in ``RESULTS``: means, those of
    scores with their standard deviation where there are several jobs."""
    cells = [
        spread(scores_of(group, column, metric), partial(score_text, metric=metric))
        for column in COLUMNS
    ]
    reports = [job.report for job in group if job.report]
    first = reports[0]["privacy"]
    epsilons = ", ".join(
        epsilon_text(max(report["privacy"]["units"][index]["epsilon_max"] for report in reports))
        for index in range(len(first["units"]))
    )
    finals = [(report["models"], final_model(report)) for report in reports]
    shipped = [models[key] for models, key in finals if key in models]
    cells.append(epsilons if is_private(first) else NOT_PRIVATE)
    if not shipped:
        return [*cells, NONE, NONE]
    milliseconds = statistics.mean(model["latency_ms"]["p50"] for model in shipped)
    least, most = (human_bytes(of(model["bytes"] for model in shipped)) for of in (min, max))
    size = least if least == most else f"{least} to {most}"
    return [*cells, size, f"{milliseconds:.3f} ms"]


def rows_of(jobs: Sequence[SweepJob]) -> list[list[str]]:
    """The table: a row for each group of :func:`repeats`, then one for each job that failed.

    The cells are the jobs, the values of the swept options but the seed, how many seeds, and
    ``RESULTS``.
    """
    options, metric = swept_but_seed(jobs), sweep_metric(jobs)
    rows = []
    for group in repeats(jobs):
        values = [group[0].values[option] for option in options]
        names = ", ".join(job.name for job in group)
        rows.append([names, *values, f"{len(group)}", *result_cells(group, metric)])
    for job in jobs:
        if job.failure:
            values = [job.values[option] for option in options]
            said = ["failed" if column == "Final" else NONE for column in RESULTS]
            rows.append([job.name, *values, NONE, *said])
    return rows


def columns_of(jobs: Sequence[SweepJob]) -> list[str]:
    """The heads of :func:`rows_of`."""
    options = swept_but_seed(jobs)
    return ["Job", *short_names(options), "Seeds", *RESULTS]


def _without_seeds(jobs: Sequence[SweepJob]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows, without the number of seeds where each job has its own row."""
    heads, rows = columns_of(jobs), rows_of(jobs)
    if all(len(group) == 1 for group in repeats(jobs)):
        at = heads.index("Seeds")
        return heads[:at] + heads[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]
    return heads, rows


def measured(jobs: Sequence[SweepJob]) -> str:
    """What the scores are: ``test accuracy``."""
    where = dict.fromkeys(tested_on(job.report) for job in jobs if job.report)
    return f"{' or '.join(where)} {METRIC_NAMES[sweep_metric(jobs)]}".strip()


def sweep_table(jobs: Sequence[SweepJob], without: Collection[str] = ()) -> Table:
    """The jobs side by side, for the terminal; ``without`` some of ``RESULTS``."""
    heads, rows = _without_seeds(jobs)
    kept = [index for index, head in enumerate(heads) if head not in without]
    heads, *rows = [[row[index] for index in kept] for row in (heads, *rows)]
    several = "Seeds" in heads
    said = "mean ± standard deviation over seeds" if several else f"{len(jobs)} jobs"
    beside = plain_table(f"Sweep: {measured(jobs)}, {said}")
    for place, head in enumerate(heads):
        numbers = head in RESULTS
        short = max(len(row[place]) for row in (heads, *rows)) <= SHORT
        beside.add_column(
            Text(head.replace("y p50", "y\np50").replace("Federated", "Feder-\nated")),
            justify="right" if numbers else "left",
            no_wrap=not (several and head in COLUMNS) if numbers else short,
            overflow="fold",
        )
    styles = {"failed": "bold red", NOT_PRIVATE: "bold red"}
    for row in rows:
        beside.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    return beside


def differences_table(jobs: Sequence[SweepJob]) -> tuple[list[str], list[list[str]]] | None:
    """Heads and rows of how the values differ from the first ones, seed by seed; None where no two
    share two seeds."""
    groups, metric = repeats(jobs), sweep_metric(jobs)
    columns: tuple[Column, ...] = ("Federated", "Final")
    options, rows = swept_but_seed(jobs), []
    for group in groups[1:]:
        found = [difference(groups[0], group, column, metric) for column in columns]
        if known := [one for one in found if one is not None]:
            cells = [
                NONE
                if one is None
                else f"{gain_text(one.mean, metric)} ({_plain_gain(one.low, metric)} to"
                f" {_plain_gain(one.high, metric)})"
                for one in found
            ]
            rows.append([_values(group, options), f"{known[0].seeds}", *cells])
    head = [f"Against {_values(groups[0], options)}" if groups else "", "Seeds", *columns]
    return (head, rows) if rows else None


def _values(group: Sequence[SweepJob], options: Sequence[str]) -> str:
    """The values of one group, as they were typed."""
    names = zip(short_names(options), options, strict=True)
    return ", ".join(f"{name}={group[0].values[option]}" for name, option in names)


def _plain_gain(gain: float, metric: Metric) -> str:
    """A gain without its unit."""
    return gain_text(gain, metric).removesuffix(" points")


def sweep_markdown(jobs: Sequence[SweepJob], warnings: Sequence[str], picture: str | None) -> str:
    """``sweep.md``: the table, why jobs failed, differences by seed, the picture, and what the
    table does not show."""
    heads, rows = _without_seeds(jobs)
    options = swept_but_seed(jobs)
    heads[1 : 1 + len(options)] = options  # whole: there is room
    left = sum(head not in RESULTS for head in heads)
    parts = ["# Sweep", table(heads, [[plain(cell) for cell in row] for row in rows], left)]
    several = "Seeds" in heads
    means = ": means over the seeds, ± their standard deviation" if several else ""
    parts.append(f"{', '.join(COLUMNS)} are {measured(jobs)}{means}.")
    parts += map(plain, failures_of(jobs))
    if found := differences_table(jobs):
        head, cells = found
        parts.append(table([plain(one) for one in head], [[plain(c) for c in r] for r in cells]))
        parts.append(f"{BY_SEED}.")
    parts += [f"![Scores by job]({picture})"] if picture else []
    return "\n\n".join([*parts, *warnings]) + "\n"


def failures_of(jobs: Sequence[SweepJob]) -> list[str]:
    """Why jobs failed, a line each."""
    return [
        f"job {job.name} failed: {' '.join(job.failure.split())}" for job in jobs if job.failure
    ]


def shipped_of(jobs: Sequence[SweepJob]) -> str:
    """What ships of which jobs, where that is not one kind for all; else nothing."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        if job.report is not None and (key := final_model(job.report)) is not None:
            kind = model_labels(job.report)[key].removeprefix("Student, ").lower()
            if ships_public_only(job.report):
                kind += ", of the public-only student"
            found.setdefault(kind, []).append(job.name)
    if len(found) < 2 and not any("public-only" in kind for kind in found):
        return ""
    return "; ".join(f"{kind} ({', '.join(names)})" for kind, names in found.items())


def warnings_of(jobs: Sequence[SweepJob], together: TogetherSection) -> list[str]:
    """What the table does not show: what all jobs spent, and what choosing by the table does."""
    found = together_sentences(together)
    reports = [job.report for job in jobs if job.report]
    if shipped := shipped_of(jobs):
        found.append(f"Final is what ships: {shipped}.")
    if len(reports) > 1 and any(tested_on(report) == "test" for report in reports):
        found.append(
            "The scores are on the test set, and that of the best job flatters it: choose with"
            " dataset.holdout_size=N dataset.evaluate_on=holdout (which spends the clients' epsilon"
            " all the same)."
        )
    return found


def tell_jobs(jobs: Sequence[SweepJob], together: TogetherSection, folder: Path) -> None:
    """Put what all jobs spent into the report, card and TensorBoard of each of them."""
    from fedlite.runs.execute import execute
    from fedlite.runs.together import config_of

    finished = [job.directory for job in jobs if job.report]
    run_ids = [run_id_of(directory) for directory in finished]
    write_json(folder / SWEEP_FILE, {"run_ids": run_ids, "together": together})
    configs = [config_of(directory) for directory in finished]
    for directory, config in zip(finished, configs, strict=True):
        assert config is not None  # it has a report
        execute(config, load_overrides(directory), ("report",), resume=True, quiet=True)
    if any(config and config.tracking.tensorboard for config in configs):
        log_together(together, folder)


def sweep_csv(jobs: Sequence[SweepJob], together: TogetherSection) -> str:
    """``sweep.csv``: every number of every job."""
    rows = [_csv_row(job) for job in jobs]
    for unit in together["units"]:
        for row in rows:
            row[f"epsilon_{unit['unit']}_level_all_jobs"] = unit["epsilon"]
    return csv_text(rows)


def _csv_row(job: SweepJob) -> dict[str, object]:
    row: dict[str, object] = {"job": job.name, **job.values}
    row |= {"status": "failed" if job.failure else "done", "reason": job.failure}
    if job.report is None:
        return row
    models, privacy = job.report["models"], job.report["privacy"]
    row["private"] = is_private(privacy)
    row |= {f"epsilon_{unit['unit']}_level": unit["epsilon_max"] for unit in privacy["units"]}
    for key, model in models.items():
        row[f"{key}_accuracy"] = model["accuracy"]
        row[f"{key}_macro_f1"] = model["macro_f1"]
        if key not in PUBLIC_MODELS:
            row[f"{key}_bytes"] = model["bytes"]
            row[f"{key}_latency_ms_p50"] = model["latency_ms"]["p50"]
    return row


def draw_sweep(jobs: Sequence[SweepJob], path: Path) -> bool:
    """Draw the scores against the swept options; whether there is something to draw: an option
    beside the seed, of two or more values, and no more panels than can be read."""
    options, groups, metric = swept_but_seed(jobs), repeats(jobs), sweep_metric(jobs)
    if not options or len(groups) < 2:
        return False
    from fedlite.report.drawing import save_figure
    from fedlite.report.sweep_chart import Point, scores_by_options

    points = [
        Point(
            values={
                name: group[0].values[option]
                for name, option in zip(short_names(options), options, strict=True)
            },
            public=scores_of(group, "Public only", metric),
            federated=scores_of(group, "Federated", metric),
        )
        for group in groups
    ]
    figure = scores_by_options(points, measured(jobs))
    if figure is not None:
        save_figure(figure, path)
    return figure is not None


def print_differences(head: list[str], rows: list[list[str]], console: Console) -> None:
    """The differences by seed."""
    beside = plain_table(BY_SEED)
    for name in head:
        beside.add_column(Text(name), overflow="fold")
    for row in rows:
        beside.add_row(*map(Text, row))
    console.print()
    console.print(beside)


def show_sweep(jobs: Sequence[SweepJob], folder: Path) -> None:
    """Compare the jobs: ``sweep.md``, ``sweep.csv`` and ``sweep.png`` in the sweep's folder, and
    the table on the terminal, with what all jobs spent together."""
    from fedlite.runs.together import spent_together

    finished = [job for job in jobs if job.report]
    try:
        together = spent_together(job.directory for job in jobs)
        warnings = warnings_of(jobs, together)
    except FedliteError as error:  # the jobs are done: what is known of them is shown
        together = NO_JOBS
        warnings = [f"What all jobs spent together cannot be said: {error}"]
    picture = "sweep.png" if draw_sweep(jobs, folder / "sweep.png") else None
    write_whole(folder / "sweep.csv", sweep_csv(jobs, together))
    write_whole(folder / "sweep.md", sweep_markdown(jobs, warnings, picture))
    console = Console(highlight=False)
    console.print()
    print_fitting(partial(sweep_table, jobs), SPARE, console)
    if found := differences_table(jobs):
        print_differences(*found, console)
    for line in failures_of(jobs):
        console.print(Text(line, style="red"))
    for warning in warnings:
        console.print(Text(warning, style="yellow"))
    if together["jobs"] > 1:
        tell_jobs(jobs, together, folder)
    console.print()
    files = ", ".join(["sweep.md", "sweep.csv", *([picture] if picture else [])])
    lines = {"sweep": f"{folder}: {files}"}
    if finished:
        lines["tensorboard"] = f"tensorboard --logdir {quote(str(folder))}"
    for name, line in lines.items():
        console.print(Text.assemble((f"{name:<11}  ", "dim"), line), soft_wrap=True)
