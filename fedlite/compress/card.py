"""The model card of a deployable folder, as markdown."""

from typing import Any

from fedlite.data.types import Task

_USE = """\
## Use

```
fedlite predict model=student.onnx input=FILE     # png, jpg, npz or csv
sha256sum -c SHA256SUMS                           # is the folder whole?
```

`student.onnx` takes `input`, float32 (batch, {shape}), normalised as `preprocessing.json` says,
`(raw / scale - mean) / std`, and answers `logits` (batch, {classes}) in the order of `labels.json`.
"""


def model_card(
    task: Task, report: dict[str, Any], *, privacy_statement: str, metrics_table: str
) -> str:
    """The card: what the model is, its privacy, its measures, its data, and how to use it.

    Args:
        task: what the model sees and answers.
        report: the run's report; its parts ``dataset``, ``federation``, ``compression`` and
            ``config`` are read (docs/report.md).
        privacy_statement: markdown; it says by itself if nothing is private.
        metrics_table: markdown.
    """
    data, federation = report["dataset"], report["federation"]
    compression, config = report["compression"], report["config"]
    shape = ", ".join(map(str, task.input_shape))
    what = (
        f"A `{config['student']['name']}` of {compression['parameters_after']:,} parameters that"
        f" tells {task.num_classes} classes apart. It was distilled from a"
        f" `{config['teacher']['name']}` by {federation['num_clients']} clients in"
        f" {federation['rounds']} rounds ({federation['strategy']}), then compressed on public data"
        f" alone: channels pruned {compression['ratio']:.0%}, weights set to zero"
        f" {compression['sparsity']:.0%}, quantization {compression['quantization']}."
    )
    facts = {
        "Data": f"`{data['name']}`",
        "One example is": task.example,
        "Public examples (teacher, warm start, pruning, calibration)": f"{data['public']:,}",
        "Test examples": f"{data['test']:,}",
        "Classes": ", ".join(task.class_names),
        "Input": f"({shape}), raw values divided by {task.scale:g} before mean and std",
    }
    rows = "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items())
    return (
        f"# {task.name}: {config['student']['name']}\n\n{what}\n\n"
        f"## Privacy\n\n{privacy_statement.strip()}\n\n"
        f"## Measures\n\n{metrics_table.strip()}\n\n"
        f"## Data\n\n| | |\n| :-- | :-- |\n{rows}\n\n"
        + _USE.format(shape=shape, classes=task.num_classes)
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
