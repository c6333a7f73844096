"""All models and artefacts side by side: for the terminal, the models as markdown too."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from fedlite.base.records import ModelKey
from fedlite.report.artefacts import (
    all_entries,
    batch_sizes,
    cells_of,
    may_ship,
    refused_artefacts,
)
from fedlite.report.judged import judgement_sentences
from fedlite.report.parts import table as markdown_table
from fedlite.report.schema import PrivacySection, Report
from fedlite.report.words import (
    NOT_PRIVATE,
    PUBLIC_MODELS,
    artefacts_of,
    epsilon_text,
    epsilons_text,
    final_model,
    human_bytes,
    is_private,
    metric_of,
    model_labels,
    not_private_reason,
    percent,
    shipped,
    tested_on,
)

COLUMNS = ("Model", "Accuracy", "Macro-F1", "Parameters", "Bytes", "Latency p50", "Epsilon")
SHIPS = "*"  # after the name of what ships
SHIPS_NOTE = f"{SHIPS} ships"


def _epsilon_cell(model: ModelKey, privacy: PrivacySection) -> str:
    if model in PUBLIC_MODELS:
        return "public"
    return epsilons_text(privacy)


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
        for key, label in model_labels(report).items()
        if (model := report["models"].get(key))
    ]


def plain_table(title: str) -> Table:
    """An empty table in the one style of the terminal: narrow, without vertical lines."""
    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def print_fitting(
    build: Callable[[Collection[str]], Table], spare: Sequence[str], console: Console
) -> None:
    """Print a table whole: without the first of its ``spare`` columns where the terminal is too
    narrow for them, which is said.

    Args:
        build: makes the table without the columns of these names.
        spare: columns that may be missing, those first that are missed least.
        console: where to print.
    """
    without: Sequence[str] = ()
    for count in range(len(spare) + 1):
        without = spare[:count]
        if _least_width(build(without), console) <= console.width:
            break
    console.print(build(without))
    if without:
        console.print(Text(f"No room here for: {', '.join(without)}.", style="dim"))


def _least_width(table: Table, console: Console) -> int:
    """Below it rich cuts cells off, also those of columns that may not wrap."""
    wide, spaces = console.options.update(width=1000), 2 * (len(table.columns) - 1)

    def width(column: Column) -> int:
        cells = [Measurement.get(console, wide, one) for one in (column.header, *column.cells)]
        return max(cell.maximum if column.no_wrap else cell.minimum for cell in cells)

    return sum(map(width, table.columns)) + spaces


def comparison_table(report: Report, without: Collection[str] = ()) -> Table:
    """The comparison for the terminal; what ships as ONNX is marked, else the last model bold."""
    table = plain_table(f"Teacher and students on the {tested_on(report)} examples")
    shown = [place for place, column in enumerate(COLUMNS) if column not in without]
    for column in (COLUMNS[place] for place in shown):
        header = column.replace("-", "\n").replace("y p50", "y\np50")  # fits 80 columns
        right, wraps = column != "Model", column == "Epsilon"
        table.add_column(header, justify="right" if right else "left", no_wrap=not wraps)
    final, labels = final_model(report), model_labels(report)
    ships = "onnx" in shipped(report)
    table.caption = Text(SHIPS_NOTE, style="dim") if ships else None
    for row in comparison_rows(report):
        last = final is not None and row[0] == labels[final]
        cells = [
            Text(row[place], style="bold red" if row[place] == NOT_PRIVATE else "")
            for place in shown
        ]
        if last and ships:
            cells[0].append(f" {SHIPS}")
        table.add_row(*cells, style="bold" if last else None)
    return table


def _spare(report: Report) -> list[str]:
    """The columns that a narrow terminal does without, those first that are missed least."""
    other = "Macro-F1" if metric_of(report) == "accuracy" else "Accuracy"
    return ["Parameters", other, "Latency p50", "Bytes"]


def comparison_markdown(report: Report) -> str:
    """The comparison as a markdown table, for report.md, TensorBoard and the model card."""
    rows = [
        [f"**{cell}**" if cell == NOT_PRIVATE else cell for cell in row]
        for row in comparison_rows(report)
    ]
    return markdown_table(COLUMNS, rows) + "\n"


def artefacts_table(report: Report, without: Collection[str] = ()) -> Table:
    """The artefacts for the terminal, as far as 80 columns go; what ships is bold and marked."""
    entries = all_entries(report)
    ships = shipped(report).values()
    batches = [f"ms, batch {one}" for one in batch_sizes(entries)[:2]]
    table = plain_table("Artefacts, each in the runtime that serves it")
    heads = {"Artefact": "Artefact", "Format": "Format", "Precision": "Preci-\nsion"}
    for head in heads.values():
        table.add_column(head)
    score = {"Accuracy": "Accu-\nracy"}
    if metric_of(report) == "macro_f1":
        score = {"Macro-F1": "Macro\nF1"}
    numbers = score | {"SNR": "SNR\ndB", "Bytes": "Bytes"}
    numbers |= {one: one.replace(", batch ", "\nb") for one in batches}
    numbers |= {"vs teacher": "vs teacher\nsize, time"}
    numbers = {name: head for name, head in numbers.items() if name not in without}
    for head in numbers.values():
        table.add_column(head, justify="right", no_wrap=True)
    listed = {one["name"] for one in artefacts_of(report)}
    for one in entries:
        if one["name"] in listed and may_ship(one):
            cells = cells_of(one, entries, model_labels(report))
            cells["Artefact"] = cells["Artefact"].removeprefix("Student, ").capitalize()
            cells["SNR"] = cells["SNR"].removesuffix(" dB")
            values = [cells[column] for column in (*heads, *numbers)]
            if one["name"] in ships:
                values[0] += f" {SHIPS}"
            table.add_row(*map(Text, values), style="bold" if one["name"] in ships else None)
    table.caption = Text(SHIPS_NOTE, style="dim") if ships else None
    return table


def privacy_line(privacy: PrivacySection) -> Text:
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
    """Print the comparison, the guarantee, what the private data bought, what ships, and the paths.

    Args:
        report: the report dictionary.
        paths: what was made, by name, in the order to show; a value may be a command line.
        console: where to print.
    """
    console.print()
    print_fitting(partial(comparison_table, report), _spare(report), console)
    console.print()
    if artefacts_of(report):
        _print_artefacts(report, console)
    if search := report.get("search"):
        console.print(Text(f"Search: {search['text']}."))
        console.print()
    console.print(privacy_line(report["privacy"]))
    if stopped := report["federation"]["stopped"]:
        console.print(Text(f"The rounds stopped {stopped}.", style="bold"))
    if judged := judgement_sentences(report):
        console.print(Text(" ".join(judged)))
    console.print()
    width = max((len(name) for name in paths), default=0)
    for name, path in paths.items():
        line = Text.assemble((f"{name:<{width}}  ", "dim"), str(path))
        console.print(line, soft_wrap=True)


def _print_artefacts(report: Report, console: Console) -> None:
    measured = [f"ms, batch {one}" for one in batch_sizes(all_entries(report))[1:2]]
    spare = (*measured, "SNR", "vs teacher", "Bytes")
    print_fitting(partial(artefacts_table, report), spare, console)
    for line in refused_artefacts(report):
        console.print(Text(f"Refused: {line}"))
    console.print()
