"""A sweep: jobs checked before the first begins, one line for each, and the table at the end."""

import csv
import json
import shlex
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import fedlite.runs.execute
from fedlite.base.errors import FedliteError
from fedlite.cli.main import run
from fedlite.cli.sweep_results import (
    SPARE,
    draw_sweep,
    failures_of,
    rows_of,
    short_names,
    show_sweep,
    sweep_table,
)
from fedlite.cli.sweep_scores import SweepJob, difference, repeats
from fedlite.report.table import print_fitting
from fedlite.runs.config import Config
from tests.conftest import TINY
from tests.e2e.command import refusal
from tests.report.runs import Report

Make = Callable[..., Report]


def job(number: int, report: Any = None, failure: str = "", **values: str) -> SweepJob:
    """A job of a sweep over these options, their names with ``_`` for a dot."""
    keys = {name.replace("_", "."): value for name, value in values.items()}
    return SweepJob(Path(f"/sweep/{number}"), keys, failure, report)


@pytest.fixture
def jobs(make_report: Make) -> list[SweepJob]:
    """A sweep over epsilon with two finished jobs, one without privacy, and one that failed."""
    return [
        job(0, make_report(epsilon=2.0), privacy="example", privacy_epsilon="2"),
        job(1, make_report(federated=0.87), privacy="example", privacy_epsilon="8"),
        job(2, make_report(private=False), privacy="none", privacy_epsilon="–"),
        job(10, None, "student: too\nsmall", privacy="example", privacy_epsilon="9"),
    ]


@pytest.fixture
def repeated(make_report: Make) -> list[SweepJob]:
    """Two values of epsilon with two seeds each, one of which failed."""
    return [
        job(0, make_report(federated=0.80), privacy_epsilon="2", seed="0"),
        job(1, make_report(federated=0.84), privacy_epsilon="2", seed="1"),
        job(2, make_report(federated=0.87), privacy_epsilon="8", seed="0"),
        job(3, None, "no memory", privacy_epsilon="8", seed="1"),
    ]


def printed(table: Any, width: int) -> list[str]:
    out = StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines()


# --- the table -----------------------------------------------------------------------------------


def test_the_table_compares_finished_and_failed_jobs(jobs: list[SweepJob]) -> None:
    rows = [" ".join(line.split()) for line in printed(sweep_table(jobs), 140)]
    assert "1 example 8 80.0% 87.0% 86.5% 7.92 24.1 kB 0.038 ms" in rows
    assert "2 none – 80.0% 86.0% 85.5% NOT PRIVATE 24.1 kB 0.038 ms" in rows
    assert "10 example 9 – – failed – – –" in rows
    assert failures_of(jobs) == ["job 10 failed: student: too small"]


def test_several_seeds_are_averaged_with_their_spread(repeated: list[SweepJob]) -> None:
    first, second, failed = rows_of(repeated)
    assert first[:5] == ["0, 1", "2", "2", "80.0% ±0.0", "82.0% ±2.8"]
    assert second[:5] == ["2", "8", "1", "80.0%", "87.0%"]
    assert failed[:6] == ["3", "8", "–", "–", "–", "failed"]
    assert [len(group) for group in repeats(repeated)] == [2, 1]
    assert "mean ± standard deviation over seeds" in printed(sweep_table(repeated), 100)[0]


@pytest.mark.parametrize("which", ["jobs", "repeated"])
@pytest.mark.parametrize("width", [50, 80, 200])
def test_the_table_fits_a_terminal(which: str, width: int, request: pytest.FixtureRequest) -> None:
    out = StringIO()
    swept = request.getfixturevalue(which)
    print_fitting(partial(sweep_table, swept), SPARE, Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert "…" not in "".join(lines)
    assert max(map(len, lines)) <= width
    assert "failed" in "".join(lines)
    assert "7.92" in "".join(lines)


def test_options_are_named_by_their_last_part_where_that_says_which() -> None:
    names = ["privacy.epsilon", "teacher.epochs", "distill.warm_start.epochs"]
    assert short_names(names) == ["epsilon", *names[1:]]


def test_a_picture_is_drawn_of_all_options_but_the_seed(
    jobs: list[SweepJob], repeated: list[SweepJob], tmp_path: Path
) -> None:
    for number, some in enumerate((repeated, jobs)):
        assert draw_sweep(some, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 1000
    assert not draw_sweep(repeated[:2], tmp_path / "seeds alone.png")


def test_values_are_compared_seed_by_seed(
    make_report: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seeds differ by 10 points, the values by one: only seed by seed that is seen."""
    jobs = [
        job(2 * seed + place, report, privacy_epsilon=epsilon, seed=f"{seed}")
        for seed in range(3)
        for place, epsilon in enumerate(("2", "8"))
        for report in [make_report(federated=0.7 + 0.1 * seed + 0.01 * place, seed=seed)]
    ]
    before, after = repeats(jobs)
    found = difference(before, after, "Federated", "accuracy")
    assert found is not None
    assert found.seeds == 3
    assert (found.mean, found.low, found.high) == pytest.approx((0.01, 0.01, 0.01))
    assert difference(before[:1], after, "Federated", "accuracy") is None
    show_sweep(jobs, tmp_path)
    line = "| epsilon=8 | 3 | +1.0 points (+1.0 to +1.0) | +1.0 points (+1.0 to +1.0) |"
    assert line in (tmp_path / "sweep.md").read_text()
    assert "Against epsilon=2" in " ".join(capsys.readouterr().out.split())


def test_a_sweep_by_macro_f1_says_so(repeated: list[SweepJob], tmp_path: Path) -> None:
    for one in repeated:
        if one.report:
            one.report["config"]["dataset"]["metric"] = "macro_f1"
    assert rows_of(repeated)[0][3:5] == ["0.790 ±0.000", "0.810 ±0.028"]
    assert "Sweep: test macro-F1" in printed(sweep_table(repeated), 100)[0]
    show_sweep(repeated, tmp_path)
    assert "are test macro-F1: means over the seeds" in (tmp_path / "sweep.md").read_text()
    with (tmp_path / "sweep.csv").open() as file:
        first = next(csv.DictReader(file))
    assert float(first["federated_student_macro_f1"]) == pytest.approx(0.79)


def test_files_and_terminal_say_the_same(
    repeated: list[SweepJob], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_sweep(repeated, tmp_path)
    shown = capsys.readouterr().out
    assert "job 3 failed: no memory" in shown
    assert shown.splitlines()[-1].split() == [
        "tensorboard",
        "tensorboard",
        "--logdir",
        str(tmp_path),
    ]
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done", "done", "done", "failed"]
    assert (rows[3]["seed"], rows[3]["reason"]) == ("1", "no memory")
    assert float(rows[0]["epsilon_example_level"]) == pytest.approx(7.92)
    assert float(rows[1]["quantized_student_bytes"]) == 24_100
    text = (tmp_path / "sweep.md").read_text()
    assert "| Job | privacy.epsilon | Seeds |" in text
    assert "| 0, 1 | 2 | 2 | 80.0% ±0.0 | 82.0% ±2.8 |" in text
    assert "job 3 failed: no memory" in text
    assert "(sweep.png)" in text


# --- running it ----------------------------------------------------------------------------------


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Jobs that began; each ends at once, and those with seed 1 fail."""
    seen: list[Config] = []

    def execute(config: Config, *_: Any, **__: Any) -> Any:
        seen.append(config)
        if config.seed == 1:
            raise FedliteError("seed 1 is unlucky")
        if config.seed == 9:
            raise KeyboardInterrupt
        evaluation = {"evaluation": {"accuracy": 0.5}}
        return SimpleNamespace(run=SimpleNamespace(facts={"teacher": evaluation}), config=config)

    monkeypatch.setattr(fedlite.runs.execute, "execute", execute)
    monkeypatch.setattr(fedlite.runs.execute, "rehearse", lambda *_: None)
    return seen


def test_jobs_without_a_report_run_in_numbered_directories_and_do_not_fail(
    tmp_path: Path, begun: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["teacher", "-m", f"run.dir={tmp_path}", "dataset=digits"]
    assert run([*command, "seed=2,3", "teacher.epochs=range(1,3)"]) == 0
    found = [(Path(one.run.dir).name, one.seed, one.teacher.epochs) for one in begun]
    assert found == [("0", 2, 1), ("1", 2, 2), ("2", 3, 1), ("3", 3, 2)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "job 0 of 4  seed=2  teacher.epochs=1"
    assert lines[1].startswith("job 0  test accuracy 50.0%  ")
    assert len(lines) == 8


def test_a_job_that_fails_keeps_no_other_from_running(
    tmp_path: Path, begun: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["teacher", "-m", f"run.dir={tmp_path}", "dataset=digits", "seed=0,1,2"]) == 1
    assert [one.seed for one in begun] == [0, 1, 2]
    checking, line = capsys.readouterr().err.splitlines()
    assert checking == "checking 3 jobs"
    assert line.startswith("fedlite: job 1: seed 1 is unlucky; the run lies in ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["federation.rounds=1,2,0"], "job 2 of 3: federation.rounds=0: must be >= 1"),
        (["student=cnn,cnnn"], "job 1 of 2: student=cnnn: no such choice; did you mean cnn?"),
        (["privacy.trust=local,aggregate", "federation.local_steps=3"], "job 1 of 2: "),
        (["seed=range(5000)"], "5,000 jobs; at most 1,000"),
    ],
)
def test_all_jobs_are_checked_before_the_first_begins(
    options: list[str],
    said: str,
    tmp_path: Path,
    begun: list[Config],
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refusal(capsys, 2, "simulate", "-m", f"run.dir={tmp_path / 'x'}", *options)
    assert said in line
    assert begun == []
    assert not (tmp_path / "x").exists()


def test_an_interrupted_sweep_says_how_to_go_on(
    tmp_path: Path, begun: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["teacher", "-m", f"run.dir={tmp_path / 'my sweep'}", "dataset=digits", "seed=0,9,2"]
    assert run(command) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"interrupted; the sweep lies in {tmp_path / 'my sweep'}; go on with: " in line
    assert shlex.split(line.partition("go on with: ")[2])[1:] == [
        *("teacher", "-m", f"run.dir={tmp_path / 'my sweep'}", "dataset=digits", "seed=0,9,2")
    ]


def test_paths_with_commas_are_swept_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[Config]
) -> None:
    (tmp_path / "a,b.pt").write_text("")
    option = f"teacher.checkpoint={tmp_path}/a,b.pt"
    assert run(["teacher", "-m", f"run.dir={tmp_path / 'x,y'}", "dataset=digits", option]) == 0
    assert [one.teacher.checkpoint for one in begun] == [f"{tmp_path}/a,b.pt"]
    assert begun[0].run.dir == str(tmp_path / "x,y" / "0")
    (tmp_path / "a,b.pt").rename(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_text("")
    monkeypatch.chdir(tmp_path)
    begun.clear()
    option = f"teacher.checkpoint={tmp_path}/a.pt,b.pt"
    assert run(["teacher", "-m", f"run.dir={tmp_path}", option]) == 0
    assert [one.teacher.checkpoint for one in begun] == [f"{tmp_path}/a.pt", "b.pt"]


def test_what_only_the_data_tell_is_refused_before_the_first_job_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(*_: Any, **__: Any) -> None:
        raise AssertionError("a job began")

    monkeypatch.setattr(fedlite.runs.execute, "execute", execute)
    command = ["simulate", "-m", *TINY, f"run.dir={tmp_path / 'x'}", "privacy.accountant=rdp"]
    assert run([*command, "privacy.delta=1e-5,0.02"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("fedlite: job 1 of 2: privacy.delta=0.02: must be below 1/n")
    assert not (tmp_path / "x").exists()


def test_a_sweep_over_a_run_that_is_there_is_refused(
    tmp_path: Path, begun: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "overrides.json").write_text("[]")
    said = "fedlite compress: works on one run; leave out -m"
    assert said in refusal(capsys, 2, "compress", str(tmp_path), "-m", "compress.ratio=0.1,0.2")
    (tmp_path / "1").mkdir()
    state = {"run_id": "x", "stages": {"teacher": {}}}
    (tmp_path / "1" / "state.json").write_text(json.dumps(state))
    command = ("simulate", "-m", f"run.dir={tmp_path}", "dataset=digits", "seed=0,2")
    assert "1: holds a run already" in refusal(capsys, 2, *command)
    assert begun == []
