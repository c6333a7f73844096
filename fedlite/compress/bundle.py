"""The deployable folder: models, labels, preprocessing, model card, manifest, sums, signature."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import replace_folder
from fedlite.data.types import Task, Tokens
from fedlite.report.card import ManifestEntry, ShippedFile, TensorName, model_card
from fedlite.report.schema import Report
from fedlite.serve.calibration import CALIBRATION
from fedlite.serve.runtime import open_runtime, runs_here, size_of
from fedlite.serve.signature import public_pem, read_signing_key, sign
from fedlite.serve.tokens import TOKENIZER
from fedlite.serve.verify import (
    MANIFEST,
    PUBLIC_KEY,
    SIGNATURE,
    SUMS,
    checksums,
)

# How inputs and outputs are called, in the formats that name them.
NAMES: dict[str, tuple[TensorName, TensorName]] = {"onnx": ({"name": "input"}, {"name": "logits"})}


def write_bundle(
    directory: Path,
    artefacts: dict[str, Path],
    manifest: Sequence[ShippedFile],
    task: Task,
    report: Report,
    *,
    privacy_statement: str,
    metrics_table: str,
    calibration: Mapping[str, Mapping[str, float]] | None = None,
    signing_key: Path | None = None,
) -> None:
    """Write the deployable folder to ``directory``, whole or not at all; it replaces an older one.

    Beside the artefacts it holds ``labels.json`` (class names in the order of the logits),
    ``preprocessing.json`` (how raw inputs are normalised; beside it ``tokenizer.json`` where they
    are texts), ``calibration.json`` (how sure answers are), ``MODEL_CARD.md``,
    ``manifest.json`` (what each artefact is) and ``SHA256SUMS``
    (``sha256sum -c``; files inside folders too). With a signing key also ``SHA256SUMS.sig``
    (ed25519 over the bytes of ``SHA256SUMS``, 64 bytes) and ``public_key.pem``.
    :func:`fedlite.serve.verify.verify_bundle` checks all of it.

    Args:
        directory: made, or replaced if it is an older bundle.
        artefacts: name in the folder to the exported file (or folder) to ship.
        manifest: for each artefact its ``file`` (name in the folder), and ``name``, ``model``,
            ``format`` and ``precision`` as in the report's ``artefacts``. To each is added what
            the file itself tells: ``bytes``, ``runtime``, ``batch``, ``input`` and ``output``.
        task: what the models see and answer.
        report: see :func:`fedlite.report.card.model_card`.
        privacy_statement: markdown.
        metrics_table: markdown.
        calibration: by file its ``temperature`` and, where one was chosen, ``threshold``
            (:mod:`fedlite.serve.calibration`); None where nothing was calibrated.
        signing_key: PEM file of an ed25519 private key.

    Raises:
        UsageError: an artefact is not there, ``directory`` holds something else, or the key cannot
            be used. The earlier folder stays.
        FedliteError: an artefact is damaged, or the folder cannot be written; the earlier one
            stays.
    """
    assert sorted(entry["file"] for entry in manifest) == sorted(artefacts), "manifest: one each"
    for source in artefacts.values():
        if not source.exists():
            raise UsageError(f"{source}: no such file; expected an exported model")
    key = None if signing_key is None else read_signing_key(signing_key)
    described = [
        _describe(entry, artefacts[entry["file"]], task)
        for entry in sorted(manifest, key=lambda entry: entry["file"])
    ]
    texts = {
        "labels.json": _json(list(task.class_names)),
        "preprocessing.json": _json(preprocessing_of(task)),
        "MODEL_CARD.md": model_card(
            task,
            report,
            described,
            privacy_statement=privacy_statement,
            metrics_table=metrics_table,
            calibrated=bool(calibration),
            signed=key is not None,
        ),
        MANIFEST: _json(described),
    }
    if calibration:
        texts[CALIBRATION] = _json(calibration)
    if isinstance(task.preprocessing, Tokens):
        texts[TOKENIZER] = task.preprocessing.tokenizer

    def fill(folder: Path) -> None:
        for name, source in artefacts.items():
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        if key is not None:
            (folder / PUBLIC_KEY).write_bytes(public_pem(key))
        sums = checksums(folder).encode()
        (folder / SUMS).write_bytes(sums)
        if key is not None:
            (folder / SIGNATURE).write_bytes(sign(sums, key))

    write_folder(directory, SUMS, "deployable folder", fill)


def _describe(entry: ShippedFile, path: Path, task: Task) -> ManifestEntry:
    """``entry`` with what the file at ``path`` tells of itself."""
    inputs, outputs = NAMES.get(entry["format"], ({}, {}))
    name, value_type = "none on the machine that made it", "float32"
    input_type = task.input_type
    batch: int | str = "as exported"
    if runs_here(path):
        runtime = open_runtime(path)
        name, value_type, batch = runtime.name, runtime.value_type, runtime.batch_size or "any"
        input_type = runtime.input_type
    return {
        **entry,
        "bytes": size_of(path),
        "runtime": name,
        "batch": batch,
        "input": {**inputs, "type": input_type, "shape": list(task.input_shape)},
        "output": {**outputs, "type": value_type, "shape": [task.num_classes]},
    }


def preprocessing_of(task: Task) -> dict[str, Any]:
    """The content of ``preprocessing.json``: how raw inputs become the model's."""
    more: dict[str, Any] = {"columns": list(task.columns)} if task.columns else {}
    if task.sound is not None:
        more["sound"] = asdict(task.sound)
    return {"input_shape": list(task.input_shape), **task.preprocessing.describe(), **more}


def write_folder(directory: Path, marker: str, kind: str, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` make a folder that then becomes ``directory``, replacing an older one.

    Args:
        directory: where it goes; its parents are made.
        marker: a file that every folder of this kind holds; another folder is never replaced.
        kind: of folder, in words.
        fill: is given an empty folder beside ``directory``.

    Raises:
        UsageError: ``directory`` is there and not of this kind.
        FedliteError: it cannot be written; what was there before is there still.
    """
    if directory.exists() and not (directory / marker).is_file():
        raise UsageError(f"{directory}: exists and is no {kind}; give another path")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=directory.parent) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            fill(new)
            replace_folder(new, directory)
    except (OSError, shutil.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise FedliteError(f"{directory}: cannot be written ({reason})") from error


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
