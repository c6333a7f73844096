"""What a command on several classes of students prints at its end."""

from collections.abc import Callable, Collection
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what runs stages is imported when they have run
    from rich.table import Table

    from fedlite.report.classes import ClassesReport
    from fedlite.runs.classes import ClassRuns
    from fedlite.runs.pipeline import Pipeline

SPARE = ("Latency p50", "Clients", "Public only", "Ships", "Student")  # those missed least first


def show_classes(runs: "ClassRuns", show: "Callable[[Pipeline], None]") -> None:
    """The table of all classes and the paths, where the command shows the report of one run; else
    what it shows of one, class by class."""
    from functools import partial

    from rich.console import Console
    from rich.text import Text

    from fedlite.cli.show import show_report
    from fedlite.report.classes import sentences_of
    from fedlite.report.table import print_fitting

    console = Console(highlight=False)
    if runs.report is None or show is not show_report:
        for name, pipeline in runs.joined.items():
            console.print(Text(f"class {name}", style="bold"))
            show(pipeline)
        return
    console.print()
    heads = [one for one in SPARE if one in _heads(runs.report)]
    print_fitting(partial(_table, runs.report), heads, console)
    console.print()
    for line in sentences_of(runs.report):
        console.print(Text(line))
    console.print()
    here, first = quote(str(runs.path)), next(iter(runs.joined.values())).run.path
    paths = {
        "report": runs.path / "report.md",
        "one page": runs.path / "report.html",
        "each class": runs.path / "classes",
        "tensorboard": f"tensorboard --logdir {here}",
        "predict": f"fedlite predict {quote(str(first))} input=FILE",
    }
    for title, path in paths.items():
        console.print(Text.assemble((f"{title:<11}  ", "dim"), str(path)), soft_wrap=True)


def _heads(report: "ClassesReport") -> list[str]:
    from fedlite.report.classes import heads_of

    return heads_of(report)


def _table(report: "ClassesReport", without: Collection[str] = ()) -> "Table":
    from fedlite.report.classes import NUMBERS, rows_of
    from fedlite.report.table import plain_table

    table, heads = plain_table("Classes of students"), _heads(report)
    shown = [place for place, head in enumerate(heads) if head not in without]
    for head in (heads[place] for place in shown):
        header = head.replace("y p50", "y\np50").replace("Federated", "Feder-\nated")
        right = head in NUMBERS or head == "Clients"
        header = header.replace("Public only", "Public\nonly")
        table.add_column(header, justify="right" if right else "left", no_wrap=head in NUMBERS)
    for row in rows_of(report):
        table.add_row(*(row[place] for place in shown))
    return table
