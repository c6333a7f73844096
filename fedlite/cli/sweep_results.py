"""What the jobs of a sweep came to, side by side: a table, a picture, files, and what all spent."""

import csv
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedlite.base.errors import FedliteError
from fedlite.base.files import write_json, write_whole
from fedlite.base.records import ModelKey
from fedlite.report.judged import ships_public_only
from fedlite.report.schema import Report
from fedlite.report.sections import TogetherSection
from fedlite.report.table import plain_table
from fedlite.report.together import NO_JOBS, log_together, together_sentences
from fedlite.report.words import (
    MODEL_LABELS,
    NOT_PRIVATE,
    PUBLIC_MODELS,
    epsilon_text,
    final_model,
    human_bytes,
    is_private,
    model_labels,
    percent,
    tested_on,
)
from fedlite.runs.directory import SWEEP_FILE, load_overrides, run_id_of

ACCURACIES = ("Public only", "Federated", "Final")
RESULTS = (*ACCURACIES, "Epsilon", "Bytes", "Latency p50")
NARROW = 76  # columns of a terminal under which these are left to sweep.md
LEFT_OUT = ("Public only", "Bytes", "Latency p50")
NONE = "–"


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep that has ended.

    ``values`` are those of the swept options, ``failure`` is why it failed (empty where it did
    not), ``report`` what it reported.
    """

    directory: Path
    values: dict[str, str]
    failure: str = ""
    report: Report | None = None

    @property
    def name(self) -> str:
        """Its number."""
        return self.directory.name


def repeats(jobs: Sequence[SweepJob]) -> list[list[SweepJob]]:
    """Finished jobs, those that differ in nothing but their seed together, in order."""
    found: dict[tuple[str, ...], list[SweepJob]] = {}
    for job in jobs:
        if job.report is not None:
            key = tuple(value for option, value in job.values.items() if option != "seed")
            found.setdefault(key, []).append(job)
    return list(found.values())


def short_names(options: Sequence[str]) -> list[str]:
    """Each option by its last part, or whole where two options share that part."""
    lasts = [option.rpartition(".")[2] for option in options]
    return [
        last if lasts.count(last) == 1 else option
        for option, last in zip(options, lasts, strict=True)
    ]


def accuracy_of(report: Report, column: str) -> float | None:
    """The accuracy in one of ``ACCURACIES``; None where there is no such model."""
    keys: dict[str, ModelKey | None] = {
        "Public only": "public_student",
        "Federated": "federated_student",
        "Final": final_model(report),
    }
    key = keys[column]
    return report["models"][key]["accuracy"] if key in report["models"] else None


def result_cells(reports: Sequence[Report]) -> list[str]:
    """The results of jobs that differ in their seed at most, as in ``RESULTS``: means, those of
    accuracies with their standard deviation where there are several jobs."""
    cells = [
        spread([accuracy_of(one, column) for one in reports], percent) for column in ACCURACIES
    ]
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


def spread(values: Sequence[float | None], shown: Callable[[float], str]) -> str:
    """The mean, and the standard deviation of several values.

    >>> spread([0.90, 0.92], percent), spread([0.90], percent), spread([None], percent)
    ('91.0% ±1.4', '90.0%', '–')
    """
    there = [value for value in values if value is not None]
    if not there:
        return NONE
    mean = shown(statistics.mean(there))
    if len(there) == 1:
        return mean
    return f"{mean} ±{shown(statistics.stdev(there)).removesuffix('%')}"


def rows_of(jobs: Sequence[SweepJob]) -> list[list[str]]:
    """The table: a row for each group of :func:`repeats`, then one for each job that failed.

    The cells are the jobs, the values of the swept options but the seed, how many seeds, and
    ``RESULTS``.
    """
    options = _options(jobs)
    rows = []
    for group in repeats(jobs):
        values = [group[0].values[option] for option in options]
        names = ", ".join(job.name for job in group)
        reports = [job.report for job in group if job.report]
        rows.append([names, *values, f"{len(group)}", *result_cells(reports)])
    for job in jobs:
        if job.failure:
            values = [job.values[option] for option in options]
            said = ["failed" if column == "Final" else NONE for column in RESULTS]
            rows.append([job.name, *values, NONE, *said])
    return rows


def columns_of(jobs: Sequence[SweepJob]) -> list[str]:
    """The heads of :func:`rows_of`."""
    options = _options(jobs)
    return ["Job", *short_names(options), "Seeds", *RESULTS]


def _options(jobs: Sequence[SweepJob]) -> list[str]:
    """The swept options but the seed."""
    return [option for option in jobs[0].values if option != "seed"] if jobs else []


def _without_seeds(jobs: Sequence[SweepJob]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows, without the number of seeds where each job has its own row."""
    heads, rows = columns_of(jobs), rows_of(jobs)
    if all(len(group) == 1 for group in repeats(jobs)):
        at = heads.index("Seeds")
        return heads[:at] + heads[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]
    return heads, rows


def sweep_table(jobs: Sequence[SweepJob], width: int) -> Table:
    """The jobs side by side, for a terminal of so many columns."""
    heads, rows = _without_seeds(jobs)
    if width < NARROW:
        kept = [index for index, head in enumerate(heads) if head not in LEFT_OUT]
        heads, *rows = [[row[index] for index in kept] for row in (heads, *rows)]
    several = "Seeds" in heads
    said = "mean ± standard deviation over seeds" if several else f"{len(jobs)} jobs"
    table = plain_table(f"Sweep: {said}")
    for head in heads:
        numbers = head in RESULTS
        table.add_column(
            Text(head.replace("y p50", "y\np50").replace("Federated", "Feder-\nated")),
            justify="right" if numbers else "left",
            no_wrap=numbers and not (several and head in ACCURACIES),
            overflow="fold",
        )
    styles = {"failed": "bold red", NOT_PRIVATE: "bold red"}
    for row in rows:
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    return table


def sweep_markdown(jobs: Sequence[SweepJob], warnings: Sequence[str], picture: str | None) -> str:
    """``sweep.md``: the table, why jobs failed, the picture, and what the table does not show."""
    heads, rows = _without_seeds(jobs)
    options = _options(jobs)
    heads[1 : 1 + len(options)] = options  # whole: there is room
    marks = ["--:" if head in RESULTS else ":--" for head in heads]
    table = "\n".join(f"| {' | '.join(line)} |" for line in [heads, marks, *rows])
    parts = ["# Sweep", table]
    if "Seeds" in heads:
        parts.append("Accuracies are means over the seeds, ± their standard deviation.")
    parts += failures_of(jobs)
    parts += [f"![Accuracy by job]({picture})"] if picture else []
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
            "The accuracies are on the test set, and that of the best job flatters it: choose with"
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
        execute(config, load_overrides(directory), ("report",), resume=True)
    if any(config and config.tracking.tensorboard for config in configs):
        log_together(together, folder)


def sweep_csv(jobs: Sequence[SweepJob], together: TogetherSection) -> str:
    """``sweep.csv``: every number of every job."""
    rows = [_csv_row(job) for job in jobs]
    for unit in together["units"]:
        for row in rows:
            row[f"epsilon_{unit['unit']}_level_all_jobs"] = unit["epsilon"]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


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
        if key not in PUBLIC_MODELS:
            row[f"{key}_bytes"] = model["bytes"]
            row[f"{key}_latency_ms_p50"] = model["latency_ms"]["p50"]
    return row


def draw_sweep(jobs: Sequence[SweepJob], path: Path) -> bool:
    """Draw accuracy against the swept option; whether there is something to draw: one option
    beside the seed, of two or more values."""
    options = _options(jobs)
    groups = repeats(jobs)
    if len(options) != 1 or len(groups) < 2:
        return False
    from fedlite.report.drawing import save_figure
    from fedlite.report.sweep_chart import accuracy_by_option

    models: dict[ModelKey, str] = {
        "public_student": "Public only",
        "federated_student": "Federated",
    }
    curves = {
        key: [
            [found for job in group if job.report and (found := accuracy_of(job.report, column))]
            for group in groups
        ]
        for key, column in models.items()
    }
    values = [group[0].values[options[0]] for group in groups]
    labels = {key: MODEL_LABELS[key] for key in curves}
    save_figure(accuracy_by_option(options[0], values, curves, labels), path)
    return True


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
    console.print(sweep_table(jobs, console.width))
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
