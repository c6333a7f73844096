"""The comparison: the same cells in the terminal and in markdown."""

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedlite.report.artefacts import artefacts_markdown
from fedlite.report.table import comparison_markdown, print_summary
from tests.report.runs import Report


def printed(report: Report, *, color: bool = False) -> str:
    """What the summary shows on a terminal of 120 columns."""
    out = StringIO()
    console = Console(file=out, width=120, force_terminal=color, color_system="standard")
    print_summary(report, {"report": Path("/runs/[a]/report.md")}, console)
    return out.getvalue()


def test_markdown_has_one_row_for_each_model_in_order(report: Report) -> None:
    lines = comparison_markdown(report).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == "| Teacher | 93.0% | 0.920 | 512,000 | 2.0 MB | 0.810 ms | public |"
    assert "norms folded" in lines[5]
    assert (
        lines[-1] == "| Student, quantized | 85.5% | 0.845 | 15,400 | 24.1 kB | 0.038 ms | 7.92 |"
    )
    assert len(lines) == 8


def test_a_missing_stage_is_left_out(report: Report) -> None:
    del report["models"]["quantized_student"], report["models"]["federated_student"]
    assert len(comparison_markdown(report).splitlines()) == 6


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({}, "Student, pruned"),
        ({"parameters_after": 1, "parameters_folded": 1}, "Student, not pruned"),
        ({"parameters_after": 1, "parameters_folded": 1, "sparsity": 0.5}, "Student, pruned"),
    ],
)
def test_what_was_not_pruned_is_not_called_so(
    report: Report, change: dict[str, float], label: str
) -> None:
    report["compression"] |= {"sparsity": 0.0} | change
    assert f"| {label} |" in comparison_markdown(report)
    assert label in printed(report)
    assert f"| {label} |" in artefacts_markdown(report)


def test_summary_shows_table_guarantee_gain_and_paths(report: Report) -> None:
    text = printed(report)
    for cell in ("Student, federated", "86.0%", "123.4 kB", "0.038 ms", "7.92"):
        assert cell in text
    assert "epsilon 7.92 (budget 8) at delta 1e-05 for one example" in text
    assert "one image of a handwritten digit" in text
    assert "bought 6.1 points" in text
    assert "/runs/[a]/report.md" in text
    assert "NOT PRIVATE" not in text


@pytest.mark.parametrize("options", [{"private": False}, {"randomness": "deterministic"}])
def test_not_private_is_red_and_shows_no_epsilon(
    make_report: Callable[..., Report], options: dict[str, Any]
) -> None:
    report = make_report(**options)
    red = "\x1b[1;31mNOT PRIVATE\x1b[0m"
    assert printed(report, color=True).count(red) == 5
    assert printed(report).count("NOT PRIVATE") == 5  # four models and the line
    assert "7.92" not in printed(report)
    assert comparison_markdown(report).count("**NOT PRIVATE**") == 4


@pytest.mark.parametrize("private", [True, False])
def test_the_table_fits_a_terminal_of_80_columns(
    make_report: Callable[..., Report], private: bool
) -> None:
    out = StringIO()
    print_summary(make_report(private=private), {}, Console(file=out, width=80))
    assert "…" not in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "512,000" in out.getvalue()


def test_noise_without_a_budget_says_so(report: Report) -> None:
    report["privacy"]["units"][0]["budget"] = None
    assert "epsilon 7.92 (no budget)" in printed(report)


def test_artefacts_of_students_are_printed_with_what_was_refused(report: Report) -> None:
    text = re.sub("\x1b.*?m", "", printed(report))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "Quantized * LiteRT int8 85.2% 34 22.3 kB 0.024 0.480 92x, 34x" in rows
    assert "Quantized Core ML int8 – – – – – –" in rows
    assert "Refused: Student, quantized, ExecuTorch (int8): SNR 11.0 dB" in text
    assert "Quantized ExecuTorch" not in " ".join(rows)
    assert sum("85x, 21x" in row for row in rows) == 1


def test_artefacts_that_ship_are_bold(report: Report) -> None:
    bold = [line for line in printed(report, color=True).splitlines() if "92x" in line]
    plain = [line for line in printed(report, color=True).splitlines() if "ExecuTorch" in line]
    assert "\x1b[1m" in bold[0]
    assert "\x1b[1m" not in plain[0]


def test_without_artefacts_there_is_no_such_table(report: Report) -> None:
    report["artefacts"] = []
    assert "Artefacts" not in printed(report)


@pytest.mark.parametrize("width", [50, 60, 80, 200])
def test_what_a_narrow_terminal_has_no_room_for_is_named_and_nothing_is_cut(
    report: Report, width: int
) -> None:
    out = StringIO()
    print_summary(report, {}, Console(file=out, width=width))
    text = out.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert ("No room here for: Parameters" in text) == (width < 80)
    for cell in ("Student, public only", "80.0%", "7.92"):
        assert cell in text


def test_what_the_models_are_measured_on_is_the_title(report: Report) -> None:
    assert "Teacher and students on the test examples" in printed(report)
    report["dataset"]["evaluated_on"] = "holdout"
    assert "Teacher and students on the held-out training examples" in printed(report)
