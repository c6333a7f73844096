"""Progress in the terminal: a bar for each stage, or a line for each where there is no terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self

from rich import progress as bars
from rich.console import Console
from rich.table import Column
from rich.text import Text

from fedlite.base.records import METRIC_NAMES
from fedlite.report.words import epsilon_text, human_seconds, score_text

Field = float | int | str | None
End = Literal["done", "stopped", "failed"]  # of a stage; stopped by Ctrl-C
_ENDS: dict[End, tuple[str, str]] = {  # style and mark of one whose count stays short
    "done": ("yellow", "!"),
    "stopped": ("yellow", "!"),
    "failed": ("red", "✗"),
}


def format_fields(fields: dict[str, Field]) -> str:
    """The fields in words, without Nones.

    >>> format_fields({"test_accuracy": 0.81, "epsilon": 1.191, "loss": None})
    'test accuracy 81.0%  epsilon 1.20'
    >>> format_fields({"held_out_macro_f1": 0.81})
    'held-out macro-F1 0.810'
    """
    return "  ".join(
        f"{_field_words(name)} {_field_value(name, value)}"
        for name, value in fields.items()
        if value is not None
    )


def _field_words(name: str) -> str:
    for metric, words in METRIC_NAMES.items():
        name = name.replace(metric, words)
    return name.replace("held_out", "held-out").replace("_", " ")


def _field_value(name: str, value: float | int | str) -> str:
    if not isinstance(value, float):
        return str(value)
    for metric in METRIC_NAMES:
        if name.endswith(metric):
            return score_text(value, metric)
    return epsilon_text(value) if name.endswith("epsilon") else f"{value:.3g}"


class Bar:
    """A stage that goes on. It holds the count and the last fields; it draws itself if it can."""

    def __init__(self, total: int | None, live: bars.Progress | None, name: str) -> None:
        self.total, self.done, self.note = total, 0, ""
        self._broken_off = False
        self.fields: dict[str, Field] = {}
        self._live = live
        self._task = live.add_task(name, total=total, **_BLANK) if live else None

    def advance(self, steps: int = 1, /, **fields: Field) -> None:
        """Count ``steps`` more and show ``fields``; a field that is not given keeps its value."""
        self.done += steps
        self.fields |= fields
        if self._live and self._task is not None:
            self._live.update(self._task, completed=self.done, shown=self.words, count=self.count)

    def conclude(self, note: str, *, complete: bool = True) -> None:
        """Say what happened: that the result was there, or why the stage ended early.

        ``complete`` is False where the rest would have been wanted: the count then stays short of
        its total.
        """
        self.note, self._broken_off = note, not complete

    def finish(self, end: End) -> None:
        """Stop the clock; a stage that ended early, as a teacher may, is complete all the same."""
        ok = end == "done"
        if ok and not self._broken_off and self.total is not None:
            self.total = self.done
        if self._live and self._task is not None:
            full = ok and not self._broken_off
            style, mark = ("green", "✓") if full else _ENDS[end]
            self._live.update(
                self._task,
                total=1 if full else self.total,
                completed=1 if full else self.done,
                shown=self.words,
                count=self.count,
                mark=f"[{style}]{mark}",
                style=style,
            )
            self._live.stop_task(self._task)

    @property
    def words(self) -> str:
        """What happened, and the last fields."""
        return "  ".join(part for part in (self.note, format_fields(self.fields)) if part)

    @property
    def count(self) -> str:
        """``'12/20'``, ``'12'`` where the total is not known, or nothing where nothing counts."""
        if self.total is None:
            return str(self.done) if self.done else ""
        return f"{self.done}/{self.total}" if self.total else ""


class _Time(bars.ProgressColumn):
    """What a stage took; while it goes on what is left as well, or alone where there is no room."""

    def __init__(self, wide: bool) -> None:
        super().__init__(Column(no_wrap=True))
        self._wide = wide

    def render(self, task: bars.Task) -> Text:
        spent = human_seconds(task.elapsed or 0.0)
        if not task.fields["timed"]:
            return Text("")
        if task.stop_time is not None:
            return Text(spent, style=task.fields["style"])
        if task.time_remaining:
            left = f"{human_seconds(task.time_remaining)} left"
            spent = f"{spent}, {left}" if self._wide else left
        return Text(spent, style="dim")


def _columns(width: int) -> Iterator[bars.ProgressColumn]:
    """What fits a terminal: what happened comes last and may take a second line."""
    yield bars.TextColumn("{task.fields[mark]}", table_column=Column(no_wrap=True))
    yield bars.TextColumn("[bold]{task.description:<10}", table_column=Column(no_wrap=True))
    if width >= _NARROW:
        yield bars.BarColumn(bar_width=max(10, min(32, width - 95)))
    yield bars.TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True))
    yield _Time(wide=width >= _WIDE)
    yield bars.TextColumn("{task.fields[shown]}", table_column=Column(overflow="fold"))


_BLANK: dict[str, Any] = {
    "shown": "",
    "count": "",
    "mark": "[cyan]•",
    "style": "dim",
    "timed": True,
}  # of a task
_NARROW, _WIDE = 70, 105  # columns: under the first there is no bar, from the second on all fits


class Progress:
    """Shows the stages of a run: bars on a terminal, a line for each finished stage elsewhere.

    Args:
        enabled: False shows nothing at all.
        console: where to show; standard error by default, so that results can be piped.
    """

    def __init__(self, enabled: bool = True, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._enabled, self._label = enabled, ""
        self._live: bars.Progress | None = None
        if enabled and self._console.is_terminal:
            self._live = bars.Progress(*_columns(self._console.width), console=self._console)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def labelled(self, label: str) -> "Progress":
        """The same terminal, where stages have ``label`` in front of their names."""
        found = copy(self)
        found._label = f"{label} "
        return found

    def tell(self, line: str, style: str = "") -> None:
        """Show a line above the bars."""
        if self._enabled:
            self._console.print(Text(line, style=style), soft_wrap=True)

    def warn(self, line: str) -> None:
        """Show a line that a person should see before going on."""
        self.tell(f"warning: {self._label}{line}", style="yellow")

    def skip(self, name: str) -> None:
        """Show a stage whose result is there from an earlier command."""
        name = f"{self._label}{name}"
        if self._live:
            bar = {"shown": "done before", "mark": "[green]✓", "timed": False}
            self._live.add_task(name, total=1, completed=1, **(_BLANK | bar))
        elif self._enabled:
            self._console.print(Text(f"{name}: done before"), soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Bar]:
        """Show one stage while the block runs.

        Args:
            name: what is shown in front of the bar.
            total: how many steps the stage takes, if that is known.
        """
        name = f"{self._label}{name.replace('_', ' ')}"
        bar, start = Bar(total, self._live, name), monotonic()
        end: End = "failed"
        try:
            yield bar
            end = "done"
        except KeyboardInterrupt:
            end = "stopped"
            raise
        finally:
            bar.finish(end)
            if self._enabled and not self._live:
                parts = [f"{name}: {end}", human_seconds(monotonic() - start)]
                parts += [part for part in (bar.count, bar.words) if part]
                self._console.print(Text("  ".join(parts)), soft_wrap=True)
