"""The comparison of all models side by side: for the terminal and as markdown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedlite.tracking.words import (
    MODELS,
    NOT_PRIVATE,
    PUBLIC_MODELS,
    Report,
    epsilon_text,
    final_model,
    human_bytes,
    is_private,
    not_private_reason,
    percent,
    what_private_data_bought,
)

COLUMNS = ("Model", "Accuracy", "Macro-F1", "Parameters", "Bytes", "Latency p50", "Epsilon")


def _epsilon_cell(model: str, privacy: dict[str, Any]) -> str:
    if model in PUBLIC_MODELS:
        return "public"
    if not is_private(privacy):
        return NOT_PRIVATE
    return ", ".join(epsilon_text(unit["epsilon_max"]) for unit in privacy["units"])


def comparison_rows(report: Report) -> list[list[str]]:
    """One row of formatted cells, as in ``COLUMNS``, for each model that the report holds."""
    return [
        [
            label,
            percent(model["accuracy"]),
            f"{model['macro_f1']:.3f}",
            f"{model['parameters']:,}",
            human_bytes(model["bytes"]),
            f"{model['latency_ms']['p50']:.3f} ms",
            _epsilon_cell(key, report["privacy"]),
        ]
        for key, label in MODELS.items()
        if (model := report["models"].get(key))
    ]


def plain_table(title: str) -> Table:
    """An empty table in the one style of the terminal: narrow, without vertical lines."""
    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def comparison_table(report: Report) -> Table:
    """The comparison for the terminal; the last model, the one that ships, is bold."""
    table = plain_table("Teacher and students on the test set")
    for column in COLUMNS:
        header = column.replace("-", "\n").replace("y p50", "y\np50")  # fits 80 columns
        right, wraps = column != "Model", column == "Epsilon"
        table.add_column(header, justify="right" if right else "left", no_wrap=not wraps)
    final = MODELS.get(final_model(report) or "")
    for row in comparison_rows(report):
        cells = [Text(cell, style="bold red" if cell == NOT_PRIVATE else "") for cell in row]
        table.add_row(*cells, style="bold" if row[0] == final else None)
    return table


def comparison_markdown(report: Report) -> str:
    """The comparison as a markdown table, for report.md, TensorBoard and the model card."""
    lines = [" | ".join(COLUMNS), " | ".join([":--"] + ["--:"] * (len(COLUMNS) - 1))]
    for row in comparison_rows(report):
        lines.append(" | ".join(f"**{cell}**" if cell == NOT_PRIVATE else cell for cell in row))
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def privacy_line(privacy: dict[str, Any]) -> Text:
    """One line on the guarantee, with the words NOT PRIVATE in red where there is none."""
    if not is_private(privacy):
        return Text.assemble((NOT_PRIVATE, "bold red"), f": {not_private_reason(privacy)}")
    units = []
    for unit in privacy["units"]:
        budget = "no budget" if unit["budget"] is None else f"budget {unit['budget']:g}"
        spent = f"epsilon {epsilon_text(unit['epsilon_max'])} ({budget})"
        units.append(f"{spent} at delta {unit['delta']:g} for one {unit['unit']}")
        if "local_epsilon_max" in unit:
            local = epsilon_text(unit["local_epsilon_max"])
            units[-1] += f", assuming that nobody sees single updates (else epsilon {local})"
    line = f"Privacy: {'; '.join(units)}."
    if privacy["protects"] != "one example":  # the default, where nobody said what it is
        line += f" One example is {privacy['protects']}."
    return Text(line)


def print_summary(report: Report, paths: Mapping[str, Path | str], console: Console) -> None:
    """Print the comparison, the guarantee, what the private data bought, and the paths.

    Args:
        report: the report dictionary.
        paths: what was made, by name, in the order to show; a value may be a command line.
        console: where to print.
    """
    console.print()
    console.print(comparison_table(report))
    console.print()
    console.print(privacy_line(report["privacy"]))
    if stopped := report["federation"]["stopped"]:
        console.print(Text(f"The rounds stopped {stopped}.", style="bold"))
    if bought := what_private_data_bought(report):
        console.print(Text(bought))
    console.print()
    width = max((len(name) for name in paths), default=0)
    for name, path in paths.items():
        line = Text.assemble((f"{name:<{width}}  ", "dim"), str(path))
        console.print(line, soft_wrap=True)
