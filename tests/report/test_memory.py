"""The memory of a federation's processes, as a report shows it."""

from pathlib import Path

import pytest

from fedlite.base.records import PeakMemory
from fedlite.report.memory import memory_section, memory_sentence
from fedlite.report.write import write_report
from tests.report.runs import CLASSES, Report

MB = 1_000_000
WORKERS = PeakMemory(process=900 * MB, fork_server=400 * MB, workers=[40 * MB, 52 * MB])


def test_cost_tells_of_each_kind_of_process(tmp_path: Path, report: Report) -> None:
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    cost = text[text.index("<summary>Cost") :]
    assert "| Memory, the run's process | 913.4 MB |" in cost
    assert "| Memory, the process that workers are forked from | 387.6 MB |" in cost
    assert "| Memory, each worker without what it shares | 52.3 MB (at most, of 2) |" in cost


def test_a_report_of_before_says_nothing_of_memory(tmp_path: Path, report: Report) -> None:
    del report["memory"]
    text = write_report(report, tmp_path, None, CLASSES, None)["report"].read_text()
    assert "| Memory, " not in text


@pytest.mark.parametrize(
    ("peak", "line"),
    [
        (
            WORKERS,
            "peak memory: the run's process 900.0 MB; the process that workers are forked from"
            " 400.0 MB; each worker without what it shares 52.0 MB (at most, of 2)",
        ),
        (PeakMemory(900 * MB), "peak memory: the run's process 900.0 MB"),
        (PeakMemory(900 * MB, 400 * MB, []), "peak memory: the run's process 900.0 MB"),
    ],
)
def test_only_what_is_known_is_said(peak: PeakMemory, line: str) -> None:
    section = memory_section(peak)
    assert section is not None
    assert memory_sentence(section) == line


def test_where_the_system_does_not_tell_there_is_no_section() -> None:
    assert memory_section(PeakMemory(None)) is None
