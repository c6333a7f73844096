"""What a report says of the devices that a run was simulated on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlite.report.fleet import fleet_section, fleet_sentence
from fedlite.report.sections import DeviceEntry
from fedlite.report.write import write_report
from tests.report.runs import CLASSES, Report, simulated

PHONE: DeviceEntry = {
    "clients": 20,
    "download_seconds": 1.0,
    "compute_seconds": 2.0,
    "upload_seconds": 3.0,
    "overhead_seconds": 4.0,
    "first_seconds": 12.5,
    "joules": 8.0,
}


def test_the_section_sums_time_and_energy_and_averages_clients() -> None:
    section = fleet_section({"phone": PHONE}, [simulated(number) for number in range(1, 31)])
    assert section["seconds"] == 1800
    assert section["rounds_an_hour"] == 60
    assert section["joules"] == 150
    assert section["clients"] == {"asked": 20, "away": 3, "left": 1, "not_counted": 2}
    assert fleet_sentence(section) == (
        "On this fleet the rounds take 30 min 0 s (60 an hour) and the clients 150 J, by estimate."
        " Of 20 clients asked in a round, 3 are away, 1 leave before they answer, and 2 answer and"
        " are not counted."
    )


def test_no_round_takes_no_time() -> None:
    section = fleet_section({"phone": PHONE}, [])
    assert (section["seconds"], section["rounds_an_hour"], section["joules"]) == (0, 0, 0)


@pytest.mark.parametrize("timed", [True, False])
def test_report_and_picture_show_a_fleet_where_there_is_one(
    tmp_path: Path, make_report: Callable[..., Report], *, timed: bool
) -> None:
    report = make_report()
    if timed:
        for entry in report["history"]:
            entry["simulated"] = simulated(entry["round"])
        rounds = [entry["simulated"] for entry in report["history"]]
        report["fleet"] = fleet_section({"phone": PHONE}, rounds)
    write_report(report, tmp_path, None, CLASSES, None)
    text = (tmp_path / "report.md").read_text()
    assert ("| phone | 20 | 1 s | 2 s | 3 s | 4 s | 12.5 s | 8 J |" in text) == timed
    assert ("(pictures/accuracy_by_simulated_time.png)" in text) == timed
    assert (tmp_path / "pictures" / "accuracy_by_simulated_time.png").exists() == timed
    assert ("fleet" in json.loads((tmp_path / "report.json").read_text())) == timed
