"""Progress: bars on a terminal, one line for each stage in a log, nothing when switched off."""

import re
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
        progress.skip("compress")
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def last_line(console: Console) -> str:
    """The last line with a word in it."""
    shown: str = console.file.getvalue()  # type: ignore[attr-defined]
    return [line for line in shown.splitlines() if re.search(r"[a-z]{3}", line)][-1]


def test_a_log_gets_one_line_for_each_finished_stage() -> None:
    lines = run(Console(file=StringIO(), width=40)).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("warm start: done  0.0 s")
    assert lines[1].startswith("federate: done  ")
    assert lines[1].endswith(" s  3/3  epsilon 1.20")
    assert lines[2] == "compress: done before"


def test_disabled_is_silent() -> None:
    assert run(Console(file=StringIO(), force_terminal=True), enabled=False) == ""


def test_a_terminal_keeps_finished_stages_with_their_seconds() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=120, color_system=None)
    last = [line for line in run(console).splitlines() if "✓" in line][-3:]
    assert "✓ warm start" in last[0]
    assert "✓ federate" in last[1]
    assert "3/3" in last[1]
    assert "epsilon 1.20" in last[1]
    assert " s " in last[1]
    assert "✓ compress" in last[2]
    assert "done before" in last[2]
    assert " s " not in last[2]


def test_a_bar_shows_accuracy_while_it_runs() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=120, color_system=None)
    with Progress(True, console) as progress, progress.stage("federate", total=4) as bar:
        bar.advance(2, test_accuracy=0.815, held_out_macro_f1=0.8)
    assert "test accuracy 81.5%  held-out macro-F1 0.800" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    ("error", "mark", "word"),
    [(ValueError, "✗", "failed"), (KeyboardInterrupt, "!", "stopped")],
)
def test_a_stage_that_breaks_off_says_how_and_lets_the_error_pass(
    terminal: bool, error: type[BaseException], mark: str, word: str
) -> None:
    console = Console(file=StringIO(), force_terminal=terminal, width=120, color_system=None)

    def broken_off() -> None:
        with Progress(True, console) as progress, progress.stage("federate", total=20) as bar:
            bar.advance(7)
            raise error

    with pytest.raises(error):
        broken_off()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert (f"{mark} federate" if terminal else f"federate: {word}") in shown
    assert "7/20" in shown


def test_a_stage_that_stops_early_is_complete() -> None:
    for terminal in (True, False):
        console = Console(file=StringIO(), force_terminal=terminal, width=120, color_system=None)
        with Progress(True, console) as progress, progress.stage("teacher", total=60) as bar:
            bar.advance(37)
            bar.conclude("stopped early")
        shown = last_line(console)
        assert "37/37" in shown
        assert "stopped early" in shown


def test_what_came_from_the_cache_counts_nothing() -> None:
    console = Console(file=StringIO(), width=120)
    with Progress(True, console) as progress, progress.stage("teacher", total=60) as bar:
        bar.conclude("from the cache")
        bar.advance(0, test_accuracy=0.5)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.fullmatch(r"teacher: done  \d.\d s  from the cache  test accuracy 50.0%\n", shown)


def test_rounds_that_were_stopped_stay_short_of_their_total() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=120, color_system=None)
    with Progress(True, console) as progress, progress.stage("federate", total=30) as bar:
        bar.advance(12)
        bar.conclude("stopped before round 13", complete=False)
    last = last_line(console)
    assert "! federate" in last
    assert "12/30" in last
    assert "stopped before round 13" in last


@pytest.mark.parametrize("width", [50, 80, 105, 200])
def test_everything_fits_the_terminal(width: int) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=width, color_system=None)
    with Progress(True, console) as progress, progress.stage("public student", total=2000) as bar:
        bar.advance(1200, held_out_accuracy=0.8, epsilon=6.1, client_epsilon=3.2)
    last = console.file.getvalue().split("\x1b[2K")[-1]  # type: ignore[attr-defined]
    assert "…" not in last
    assert max(map(len, last.splitlines())) <= width
    words = " ".join(last.split())
    for part in ("✓ public student", "1200/1200", "80.0%", "6.10", "3.20"):
        assert part in words
