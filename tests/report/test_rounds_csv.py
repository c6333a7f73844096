"""rounds.csv: a row for each round, once, however often the run was broken off."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from fedlite.report.rounds_csv import COLUMNS, RoundsCsv
from tests.report.runs import round_record, simulated


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_says_what_a_round_came_to(tmp_path: Path) -> None:
    path = tmp_path / "rounds.csv"
    table = RoundsCsv(path, [], "holdout")
    assert path.read_text() == ",".join(COLUMNS) + "\n"
    table.add(round_record(1))
    table.add(replace(round_record(2, private=False), evaluation=None, simulated=simulated(2)))
    first, second = rows_of(path)
    assert first["evaluated_on"] == "holdout"
    assert float(first["accuracy"]) == pytest.approx(0.803)
    assert float(first["epsilon_max"]) >= float(first["epsilon_mean"]) > 0
    assert (first["bytes_down"], first["teacher_bytes"]) == ("2500000", "100000")
    assert float(first["seconds_total"]) == pytest.approx(0.89)
    assert first["simulated_clock_seconds"] == first["clip"] == ""
    assert second["evaluated_on"] == second["accuracy"] == second["epsilon_max"] == ""
    assert second["simulated_clock_seconds"] == "120"


def test_a_resumed_run_has_every_round_once(tmp_path: Path) -> None:
    path, history = tmp_path / "rounds.csv", [round_record(number) for number in (1, 2, 3)]
    table = RoundsCsv(path, [], "test")
    for record in history:
        table.add(record)
    whole = path.read_text()
    with path.open("a") as file:
        file.write("4,test,0.8")  # killed within a row, before its checkpoint
    RoundsCsv(path, history[:2], "test").add(history[2])
    assert path.read_text() == whole
