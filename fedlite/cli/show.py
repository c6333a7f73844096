"""What a command that ran stages prints at its end: tables and the paths of what was made."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what runs stages is imported when they have run
    from fedlite.runs.pipeline import Pipeline


def show_report(pipeline: "Pipeline") -> None:
    """The comparison, the guarantee, what the private data bought, and the paths."""
    from rich.console import Console

    from fedlite.report.table import print_summary
    from fedlite.runs.assemble import assemble_report

    here, deploy = quote(str(pipeline.run.path)), pipeline.run.file("deploy")
    paths: dict[str, Path | str] = {
        "report": pipeline.run.file("report.md"),
        "one page": pipeline.run.file("report.html"),
        "deploy": deploy,
        "tensorboard": f"tensorboard --logdir {here}",
        "predict": f"fedlite predict {here} input=FILE",
    }
    if "onnx" in pipeline.config.compress.formats:
        paths["demo"] = f"fedlite demo {here}"
    print_summary(assemble_report(pipeline), paths, Console())


def show_audits(pipeline: "Pipeline") -> None:
    """What the attacks found; refuses the run if they refuted its claim."""
    from rich.console import Console

    from fedlite.audit.attacks import AUDITS_FILE
    from fedlite.base.files import read_json
    from fedlite.report.audits import conclude

    conclude(read_json(pipeline.run.file(AUDITS_FILE)), pipeline.run.path, Console())


def show_search(pipeline: "Pipeline") -> None:
    """What was found, and where it lies."""
    from rich.console import Console
    from rich.text import Text

    console, found = Console(), pipeline.run.facts["search_student"]
    student = pipeline.run.file(found["student_file"])
    console.print(Text(found["text"]), soft_wrap=True)
    console.print(Text(f"student: {student}"), soft_wrap=True)
    console.print(Text(f"trials: {pipeline.run.file(found['trials_file'])}"), soft_wrap=True)
    console.print(Text(f"use it: fedlite simulate {quote(f'student={student}')}"), soft_wrap=True)


def show_tuning(pipeline: "Pipeline") -> None:
    """The options before and after, why, what it cost, and how to use them."""
    from rich.console import Console
    from rich.text import Text

    from fedlite.report.table import plain_table
    from fedlite.runs.stages.tune import FREE

    console, found = Console(), pipeline.run.facts["tune"]
    table = plain_table("Options of the federation")
    for column in ("Option", "Set by hand", "Chosen"):
        table.add_column(column, justify="left" if column == "Option" else "right")
    for option, value in found["chosen"].items():
        before = found["by_hand"].get(option, value)
        style = "bold" if before != value else None
        table.add_row(option, f"{before:g}", f"{value:g}", style=style)
    console.print(table)
    console.print(Text(f"{found['text']}."), soft_wrap=True)
    world = f"{found['clients']} simulated clients, {found['examples_per_client']} examples each."
    console.print(Text(f"Public data alone: {world} {FREE}"), soft_wrap=True)
    experiment = quote(f"experiment={pipeline.run.file(found['experiment_file'])}")
    console.print(Text(f"trials: {pipeline.run.file(found['trials_file'])}"), soft_wrap=True)
    console.print(Text(f"use it: fedlite simulate {experiment}"), soft_wrap=True)


def show_accuracy(pipeline: "Pipeline") -> None:
    """The accuracy, or macro-F1, of every stage that made a model."""
    from rich.console import Console
    from rich.text import Text

    from fedlite.base.records import METRIC_NAMES
    from fedlite.report.words import MODEL_LABELS, score_text, tested_words
    from fedlite.runs.facts import MODEL_STAGES

    console, stages = Console(), pipeline.run.facts
    dataset = pipeline.config.dataset
    metric, where = dataset.metric, tested_words(dataset.evaluate_on)
    for model, name in MODEL_STAGES.items():
        if facts := stages.get(name):
            score = score_text(facts["evaluation"][metric], metric)
            console.print(f"{MODEL_LABELS[model]}: {where} {METRIC_NAMES[metric]} {score}")
    console.print(Text(f"run directory: {pipeline.run.path}"), soft_wrap=True)
