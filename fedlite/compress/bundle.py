"""The deployable folder: model, labels, preprocessing, model card and checksums."""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fedlite.compress.card import model_card
from fedlite.data.types import Task
from fedlite.errors import FedliteError, UsageError

MODEL = "student.onnx"
SUMS = "SHA256SUMS"


def write_bundle(
    directory: Path,
    model_path: Path,
    task: Task,
    report: dict[str, Any],
    *,
    privacy_statement: str,
    metrics_table: str,
) -> None:
    """Write the deployable folder to ``directory``, whole or not at all; it replaces an older one.

    It holds ``student.onnx``, ``labels.json`` (class names in the order of the logits),
    ``preprocessing.json`` (how raw inputs are normalised), ``MODEL_CARD.md`` and ``SHA256SUMS``
    (``sha256sum -c``).

    Args:
        directory: made, or replaced if it is an older bundle.
        model_path: the exported file to ship.
        task: what it sees and answers.
        report: see :func:`fedlite.compress.card.model_card`.
        privacy_statement: markdown.
        metrics_table: markdown.

    Raises:
        UsageError: no file at ``model_path``, or ``directory`` holds something else.
        FedliteError: the folder cannot be written.
    """
    if not model_path.is_file():
        raise UsageError(f"{model_path}: no such file; expected an exported model (.onnx)")
    if directory.exists() and not (directory / SUMS).is_file():
        raise UsageError(f"{directory}: exists and is no deployable folder; give another path")
    card = model_card(
        task, report, privacy_statement=privacy_statement, metrics_table=metrics_table
    )
    preprocessing = {
        "input_shape": list(task.input_shape),
        "layout": "channels_first",
        "formula": "(raw / scale - mean) / std, per leading dimension of input_shape",
        "scale": task.scale,
        "mean": list(task.mean),
        "std": list(task.std),
    }
    texts = {
        "labels.json": json.dumps(list(task.class_names), indent=2, ensure_ascii=False) + "\n",
        "preprocessing.json": json.dumps(preprocessing, indent=2) + "\n",
        "MODEL_CARD.md": card,
    }
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bundle-", dir=directory.parent) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            shutil.copyfile(model_path, new / MODEL)
            for name, text in texts.items():
                (new / name).write_text(text, encoding="utf-8")
            (new / SUMS).write_text(checksums(new), encoding="utf-8")
            if directory.exists():
                directory.rename(Path(temporary) / "old")
            new.rename(directory)
    except OSError as error:
        raise FedliteError(f"{directory}: cannot be written ({error.strerror})") from error


def checksums(directory: Path) -> str:
    """The text of a ``SHA256SUMS`` file for the files in ``directory``, in ``sha256sum`` form."""
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(directory.iterdir())
        if path.name != SUMS
    )
