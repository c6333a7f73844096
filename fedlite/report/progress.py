"""Progress in the terminal: a bar for each stage, or a line for each where there is no terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Self

from rich import progress as bars
from rich.console import Console
from rich.text import Text

from fedlite.report.words import epsilon_text, human_seconds, percent

Field = float | int | str | None


def format_fields(fields: dict[str, Field]) -> str:
    """``{'accuracy': 0.81, 'epsilon': 1.2} -> 'accuracy 81.0%  epsilon 1.20'``, without Nones."""
    shown = []
    for name, value in fields.items():
        if value is None:
            continue
        if name in ("accuracy", "macro_f1") and isinstance(value, float):
            value = percent(value)
        elif name == "epsilon" and isinstance(value, float):
            value = epsilon_text(value)
        elif isinstance(value, float):
            value = f"{value:.3g}"
        shown.append(f"{name.replace('_', '-')} {value}")
    return "  ".join(shown)


class Bar:
    """A stage that goes on. It holds the count and the last fields; it draws itself if it can."""

    def __init__(self, total: int | None, live: bars.Progress | None, name: str) -> None:
        self.total, self.done = total, 0
        self.fields: dict[str, Field] = {}
        self._live = live
        self._task = live.add_task(name, total=total, shown="", mark="[cyan]•") if live else None

    def advance(self, steps: int = 1, **fields: Field) -> None:
        """Count ``steps`` more and show ``fields``; a field that is not given keeps its value."""
        self.done += steps
        self.fields |= fields
        if self._live and self._task is not None:
            self._live.update(self._task, completed=self.done, shown=format_fields(self.fields))

    def finish(self, ok: bool) -> None:
        """Stop the clock; a stage that ended early, as a teacher may, is complete all the same."""
        if self._live and self._task is not None:
            done = max(self.done, 1)
            self._live.update(
                self._task,
                total=done if ok else self.total,
                completed=done if ok else self.done,
                mark="[green]✓" if ok else "[red]✗",
            )
            self._live.stop_task(self._task)

    @property
    def count(self) -> str:
        """``'12/20'``, ``'12'`` where the total is not known, or nothing where nothing counts."""
        if self.total is None:
            return str(self.done) if self.done else ""
        return f"{self.done}/{self.total}"


class _Count(bars.ProgressColumn):
    def render(self, task: bars.Task) -> Text:
        if task.total is None:
            return Text(f"{task.completed:.0f}" if task.completed else "")
        if task.total <= 1:
            return Text("")
        return Text(f"{task.completed:.0f}/{task.total:.0f}")


class _Time(bars.ProgressColumn):
    def render(self, task: bars.Task) -> Text:
        spent = human_seconds(task.elapsed or 0.0)
        if task.stop_time is not None:
            return Text(spent, style="green" if task.finished else "red")
        if task.time_remaining:
            spent += f", {human_seconds(task.time_remaining)} left"
        return Text(spent, style="dim")


class Progress:
    """Shows the stages of a run: bars on a terminal, a line for each finished stage elsewhere.

    Args:
        enabled: False shows nothing at all.
        console: where to show; standard error by default, so that results can be piped.
    """

    def __init__(self, enabled: bool = True, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._enabled = enabled
        self._live: bars.Progress | None = None
        if enabled and self._console.is_terminal:
            self._live = bars.Progress(
                bars.TextColumn("{task.fields[mark]}"),
                bars.TextColumn("[bold]{task.description:<10}"),
                bars.BarColumn(bar_width=max(8, min(32, self._console.width - 72))),
                _Count(),
                bars.TextColumn("{task.fields[shown]}"),
                _Time(),
                console=self._console,
            )

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

    def tell(self, line: str, style: str = "") -> None:
        """Show a line above the bars."""
        if self._enabled:
            self._console.print(Text(line, style=style), soft_wrap=True)

    def warn(self, line: str) -> None:
        """Show a line that a person should see before going on."""
        self.tell(f"warning: {line}", style="yellow")

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Bar]:
        """Show one stage while the block runs.

        Args:
            name: what is shown in front of the bar.
            total: how many steps the stage takes, if that is known.
        """
        bar, start, ok = Bar(total, self._live, name.replace("_", " ")), monotonic(), False
        try:
            yield bar
            ok = True
        finally:
            bar.finish(ok)
            if self._enabled and not self._live:
                mark = "done" if ok else "failed"
                parts = [f"{name.replace('_', ' ')}: {mark}", human_seconds(monotonic() - start)]
                parts += [part for part in (bar.count, format_fields(bar.fields)) if part]
                self._console.print(Text("  ".join(parts)), soft_wrap=True)
