"""Progress: bars on a terminal, one line for each stage in a log, nothing when switched off."""

from io import StringIO

import pytest
from rich.console import Console

from fedlite.report.progress import Progress


def run(console: Console, *, enabled: bool = True) -> str:
    """Two stages, and what they showed."""
    with Progress(enabled, console) as progress:
        with progress.stage("warm_start"):
            pass
        with progress.stage("federate", total=3) as bar:
            for number in range(3):
                bar.advance(accuracy=0.8 + number / 100, epsilon=1.191)
            bar.advance(0, accuracy=None)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_log_gets_one_line_for_each_finished_stage() -> None:
    lines = run(Console(file=StringIO(), width=40)).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("warm start: done  0.0 s")
    assert lines[1].startswith("federate: done  ")
    assert lines[1].endswith(" s  3/3  epsilon 1.20")


def test_disabled_is_silent() -> None:
    assert run(Console(file=StringIO(), force_terminal=True), enabled=False) == ""


def test_a_terminal_keeps_finished_stages_with_their_seconds() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=120, color_system=None)
    last = [line for line in run(console).splitlines() if "✓" in line][-2:]
    assert "✓ warm start" in last[0]
    assert "✓ federate" in last[1]
    assert "3/3" in last[1]
    assert "epsilon 1.20" in last[1]
    assert last[1].rstrip().endswith(" s")


def test_a_bar_shows_accuracy_while_it_runs() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=120, color_system=None)
    with Progress(True, console) as progress, progress.stage("federate", total=4) as bar:
        bar.advance(2, accuracy=0.815, macro_f1=0.8)
    assert "accuracy 81.5%  macro-f1 80.0%" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stage_that_fails_says_so_and_lets_the_error_pass(terminal: bool) -> None:
    console = Console(file=StringIO(), force_terminal=terminal, width=120, color_system=None)

    def broken_off() -> None:
        with Progress(True, console) as progress, progress.stage("federate", total=20) as bar:
            bar.advance(7)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("✗ federate" if terminal else "federate: failed") in shown
    assert "7/20" in shown


def test_a_stage_that_stops_early_is_complete() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=120, color_system=None)
    with Progress(True, console) as progress, progress.stage("teacher", total=60) as bar:
        bar.advance(37)
    assert "37/37" in console.file.getvalue()  # type: ignore[attr-defined]
