"""The table at the end of a sweep: a Hydra callback that compares its jobs."""

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import write_json, write_whole
from fedlite.base.records import ModelKey
from fedlite.report.schema import Report
from fedlite.report.sections import TogetherSection
from fedlite.report.table import plain_table
from fedlite.report.together import NO_JOBS, log_together, together_sentences
from fedlite.report.words import (
    NOT_PRIVATE,
    PUBLIC_MODELS,
    epsilon_text,
    final_model,
    human_bytes,
    is_private,
    percent,
    tested_on,
)
from fedlite.runs.directory import OVERRIDES_FILE, SWEEP_FILE, load_overrides, run_id_of

RESULTS = ("Public only", "Federated", "Final", "Epsilon", "Bytes", "Latency p50")


@dataclass(frozen=True)
class Job:
    """One job of a sweep: its directory, its overrides, and its report if it wrote one."""

    directory: Path
    overrides: dict[str, str]
    report: Report | None


def read_jobs(sweep_dir: Path) -> list[Job]:
    """Every job below a sweep's directory that started, in the order they were numbered."""
    # Imported late: every start of the command loads this module, but few draw pictures.
    from fedlite.report.write import load_report

    jobs = []
    for path in sweep_dir.glob(f"*/{OVERRIDES_FILE}"):
        directory = path.parent
        pairs = [line.partition("=") for line in load_overrides(directory)]
        try:
            report = load_report(directory / "report.json")
        except UsageError:
            report = None
        jobs.append(Job(directory, {key: value for key, _, value in pairs}, report))
    return sorted(jobs, key=lambda job: (len(job.directory.name), str(job.directory)))


def swept_options(jobs: list[Job]) -> list[str]:
    """The options whose values differ between jobs, in the order they were given."""
    options = list(dict.fromkeys(option for job in jobs for option in job.overrides))
    return [one for one in options if len({job.overrides.get(one) for job in jobs}) > 1]


def short_names(options: list[str]) -> list[str]:
    """Each option by its last part, or whole where two options share that part."""
    lasts = [option.rpartition(".")[2] for option in options]
    return [
        last if lasts.count(last) == 1 else option
        for option, last in zip(options, lasts, strict=True)
    ]


def _accuracy(report: Report, key: ModelKey | None) -> str:
    models = report["models"]
    return percent(models[key]["accuracy"]) if key in models else "–"


def result_cells(report: Report | None) -> list[str]:
    """A job's results, as in ``RESULTS``; a job without a report has failed."""
    if report is None:
        return ["failed"] + ["–"] * (len(RESULTS) - 1)
    final = final_model(report)
    model = report["models"].get(final) if final else None
    privacy = report["privacy"]
    epsilon = ", ".join(epsilon_text(unit["epsilon_max"]) for unit in privacy["units"])
    return [
        _accuracy(report, "public_student"),
        _accuracy(report, "federated_student"),
        _accuracy(report, final),
        epsilon if is_private(privacy) else NOT_PRIVATE,
        human_bytes(model["bytes"]) if model else "–",
        f"{model['latency_ms']['p50']:.3f} ms" if model else "–",
    ]


def _csv_row(job: Job) -> dict[str, object]:
    row: dict[str, object] = {"job": job.directory.name, **job.overrides}
    row["status"] = "done" if job.report else "failed"
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


def sweep_table(jobs: list[Job]) -> Table:
    """The jobs side by side, for the terminal."""
    swept = swept_options(jobs)
    table = plain_table(f"Sweep: {len(jobs)} jobs")
    for column in ("Job", *short_names(swept)):
        table.add_column(Text(column), overflow="fold")
    for column in RESULTS:
        table.add_column(column, justify="right", no_wrap=True)
    for job in jobs:
        cells = [job.directory.name, *(job.overrides.get(option, "–") for option in swept)]
        cells += result_cells(job.report)
        styles = {"failed": "bold red", NOT_PRIVATE: "bold red"}
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in cells))
    return table


def spent_by_all(jobs: list[Job]) -> TogetherSection:
    """What the jobs spent together; what the report of each of them lacks.

    Raises:
        FedliteError: a damaged ledger.
    """
    from fedlite.runs.together import spent_together  # late, as above

    return spent_together(job.directory for job in jobs)


def warnings_of(jobs: list[Job], together: TogetherSection) -> list[str]:
    """What the table does not show: what all jobs spent, and what choosing by the table does."""
    found = together_sentences(together)
    reports = [job.report for job in jobs if job.report]
    if len(reports) > 1 and any(tested_on(report) == "test" for report in reports):
        found.append(
            "The accuracies are on the test set, and that of the best job flatters it: choose with"
            " dataset.holdout_size=N dataset.evaluate_on=holdout (which spends the clients' epsilon"
            " all the same)."
        )
    return found


def tell_jobs(jobs: list[Job], together: TogetherSection, sweep_dir: Path) -> None:
    """Put what all jobs spent into the report, card and TensorBoard of each of them."""
    from fedlite.runs.execute import execute  # late, as above
    from fedlite.runs.together import config_of

    finished = [job.directory for job in jobs if job.report]
    run_ids = [run_id_of(directory) for directory in finished]
    write_json(sweep_dir / SWEEP_FILE, {"run_ids": run_ids, "together": together})
    configs = [config_of(directory) for directory in finished]
    for directory, config in zip(finished, configs, strict=True):
        assert config is not None  # it has a report
        execute(config, load_overrides(directory), ("report",), resume=True)
    if any(config and config.tracking.tensorboard for config in configs):
        log_together(together, sweep_dir)


def write_sweep(
    jobs: list[Job], sweep_dir: Path, together: TogetherSection, warnings: list[str]
) -> None:
    """Write ``sweep.csv`` (all numbers) and ``sweep.md`` (the table) into ``sweep_dir``."""
    rows = [_csv_row(job) for job in jobs]
    for unit in together["units"]:
        for row in rows:
            row[f"epsilon_{unit['unit']}_level_all_jobs"] = unit["epsilon"]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(sweep_dir / "sweep.csv", buffer.getvalue())
    swept = swept_options(jobs)
    lines = [["Job", *swept, *RESULTS], [":--"] * (1 + len(swept)) + ["--:"] * len(RESULTS)]
    for job in jobs:
        values = [job.overrides.get(option, "–") for option in swept]
        lines.append([job.directory.name, *values, *result_cells(job.report)])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    parts = ["# Sweep", text, *warnings]
    write_whole(sweep_dir / "sweep.md", "\n\n".join(parts) + "\n")


class SweepTable(Callback):
    """Prints and writes the table of a finished sweep, and what its jobs spent together.

    Named in ``conf/`` as a Hydra callback.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare the jobs in the sweep's directory."""
        sweep_dir = Path(config.hydra.sweep.dir)
        jobs = read_jobs(sweep_dir)
        if not jobs:
            return
        try:
            together = spent_by_all(jobs)
            warnings = warnings_of(jobs, together)
        except FedliteError as error:  # the jobs are done: what is known of them is shown
            together = NO_JOBS
            warnings = [f"What all jobs spent together cannot be said: {error}"]
        write_sweep(jobs, sweep_dir, together, warnings)
        console = Console()
        console.print(sweep_table(jobs))
        for warning in warnings:
            console.print(Text(warning, style="yellow"))
        if together["jobs"] > 1:
            tell_jobs(jobs, together, sweep_dir)
        console.print(Text(f"Written to {sweep_dir / 'sweep.md'} and sweep.csv"), soft_wrap=True)
