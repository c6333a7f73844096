"""The table at the end of a sweep, collected from the jobs' directories."""

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from fedlite.cli.sweep import (
    SweepTable,
    read_jobs,
    short_names,
    sweep_table,
    swept_options,
)
from tests.report.runs import Report


@pytest.fixture
def sweep_dir(tmp_path: Path, make_report: Callable[..., Report]) -> Path:
    """A sweep over epsilon with two finished jobs, one without privacy, and one that failed."""
    jobs = {
        "0": (["privacy=example", "privacy.epsilon=2", "seed=1"], make_report(epsilon=2.0)),
        "1": (["privacy=example", "privacy.epsilon=8", "seed=1"], make_report(federated=0.87)),
        "2": (["privacy=none", "seed=1"], make_report(private=False)),
        "10": (["privacy=example", "privacy.epsilon=9", "seed=1"], None),
    }
    for name, (overrides, report) in jobs.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "overrides.json").write_text(json.dumps(overrides))
        if report:
            text = json.dumps({"schema_version": 1, **report})
            (tmp_path / name / "report.json").write_text(text)
    return tmp_path


def test_jobs_come_in_order_with_their_overrides(sweep_dir: Path) -> None:
    jobs = read_jobs(sweep_dir)
    assert [job.directory.name for job in jobs] == ["0", "1", "2", "10"]
    assert jobs[0].overrides["privacy.epsilon"] == "2"
    assert jobs[3].report is None
    assert swept_options(jobs) == ["privacy", "privacy.epsilon"]  # not the seed: it is always 1


def test_table_compares_finished_and_failed_jobs(sweep_dir: Path) -> None:
    out = StringIO()
    Console(file=out, width=140).print(sweep_table(read_jobs(sweep_dir)))
    rows = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "1 example 8 80.0% 87.0% 86.5% 7.92 24.1 kB 0.038 ms" in rows
    assert "2 none – 80.0% 86.0% 85.5% NOT PRIVATE 24.1 kB 0.038 ms" in rows
    assert "10 example 9 failed – – – – –" in rows


def test_the_table_fits_a_terminal_of_80_columns(sweep_dir: Path) -> None:
    out = StringIO()
    Console(file=out, width=80).print(sweep_table(read_jobs(sweep_dir)))
    assert "…" not in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_options_are_named_by_their_last_part_where_that_says_which() -> None:
    names = ["privacy.epsilon", "teacher.epochs", "distill.warm_start.epochs"]
    assert short_names(names) == ["epsilon", *names[1:]]


def test_callback_writes_and_prints(sweep_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hydra = {"sweep": {"dir": str(sweep_dir)}}
    SweepTable().on_multirun_end(OmegaConf.create({"hydra": hydra}))
    assert "Sweep: 4 jobs" in capsys.readouterr().out
    with (sweep_dir / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done", "done", "done", "failed"]
    assert float(rows[0]["epsilon_example_level"]) == pytest.approx(1.98)
    assert rows[2]["epsilon_example_level"] == ""
    assert float(rows[1]["quantized_student_bytes"]) == 24_100
    text = (sweep_dir / "sweep.md").read_text()
    assert "| 10 | example | 9 | failed |" in text


def test_an_empty_sweep_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hydra = {"sweep": {"dir": str(tmp_path)}}
    SweepTable().on_multirun_end(OmegaConf.create({"hydra": hydra}))
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []
