"""Predicting with a deployable folder alone: numpy, pillow and the model's runtime; no torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedlite.base.calibration import probabilities_of
from fedlite.base.errors import FedliteError, UsageError
from fedlite.serve.calibration import read_calibration
from fedlite.serve.cascade import Cascade
from fedlite.serve.inputs import Examples, files_of, read_examples, refuse_what_does_not_fit
from fedlite.serve.preprocessing import Kind, read_json, read_preprocessing
from fedlite.serve.runtime import logits_of, open_runtime
from fedlite.serve.verify import MANIFEST

DEFAULT = "student.onnx"
BATCH = 256  # examples that are answered together
BY_TEACHER = "the student was unsure: sent to the teacher, whose answer this is"


@dataclass(frozen=True)
class Prediction:
    """Classes of one example with their probabilities, the likeliest first.

    ``notes`` say what was done to a picture or recording to fit it to the model.
    """

    source: str
    probabilities: list[tuple[str, float]]
    notes: tuple[str, ...] = ()


def predict(
    model_path: Path,
    inputs: Path | Sequence[Path],
    *,
    invert: bool = False,
    skip: Callable[[FedliteError], None] | None = None,
    cascade: Cascade | None = None,
) -> list[Prediction]:
    """Predict for every example in files and folders.

    ``model_path`` is an exported file of any format, or its folder (:func:`choose_model`);
    ``labels.json``, ``preprocessing.json`` and, where it is, ``calibration.json`` are read beside
    it. A file is a picture, or an npy, npz, csv, tsv or parquet, for a model of recordings a wav,
    and for one of texts a txt, csv, tsv, jsonl or parquet
    (:func:`fedlite.serve.inputs.read_examples`); a folder stands for all such files below it.

    Args:
        model_path: the model.
        inputs: one path or several.
        invert: swap dark and light in pictures: what is black on white is white on black.
        cascade: asks a teacher where the model is unsure: such inputs are sent to its server. None
            sends nothing.
        skip: told of every file that cannot be read, which is then left out; None raises.

    Raises:
        UsageError: a file is missing, of an unknown kind, or its examples have another shape.
        FedliteError: a file is damaged.
    """
    if not model_path.exists():
        raise UsageError(f"{model_path}: no such file or folder; name a run or an exported student")
    model_path = choose_model(model_path)
    runtime = open_runtime(model_path)
    preprocessing = read_preprocessing(model_path.with_name("preprocessing.json"))
    labels, calibration = class_names(model_path), read_calibration(model_path)
    given = [inputs] if isinstance(inputs, Path) else list(inputs)
    files = files_of(given, preprocessing.kind)
    refuse_what_does_not_fit(files, preprocessing, invert)

    def readable() -> Iterator[Examples]:
        for path in files:
            try:
                name = _name(path, given)
                yield read_examples(path, preprocessing, name=name, invert=invert)
            except FedliteError as error:
                if skip is None:
                    raise
                skip(error)

    found = []
    for names, raw, notes in _batches(readable()):
        normalised = preprocessing.normalise(raw)
        logits = logits_of(runtime, normalised, BATCH)
        if len(labels) != logits.shape[1]:
            raise FedliteError(
                f"{model_path.with_name('labels.json')}: must list {logits.shape[1]} class names"
            )
        probabilities = probabilities_of(logits, calibration.temperature)
        if cascade is not None:
            probabilities, told = cascade.improve(normalised, probabilities, labels)
            notes = [
                (*note, BY_TEACHER) if by else note for note, by in zip(notes, told, strict=True)
            ]
        for name, row, note in zip(names, probabilities, notes, strict=True):
            order = np.argsort(-row, kind="stable")
            found.append(Prediction(name, [(labels[i], float(row[i])) for i in order], note))
    return found


def _name(path: Path, given: Sequence[Path]) -> str:
    """A file as predictions call it: below the one input, or as it was given."""
    if len(given) > 1:
        return str(path)
    return path.relative_to(given[0]).as_posix() if given[0].is_dir() else path.name


def _batches(
    files: Iterable[Examples],
) -> Iterator[tuple[list[str], NDArray[Any], list[tuple[str, ...]]]]:
    """Names, raw values and notes of the examples of many small files together."""
    names: list[str] = []
    parts: list[NDArray[Any]] = []
    notes: list[tuple[str, ...]] = []
    for file in files:
        names += file.names
        parts.append(file.raw)
        notes += [file.notes] * len(file.names)
        if len(names) >= BATCH:
            yield names, np.concatenate(parts), notes
            names, parts, notes = [], [], []
    if names:
        yield names, np.concatenate(parts), notes


def taken_by(model_path: Path) -> Kind | Literal["text"]:
    """What a model takes.

    Raises:
        UsageError: there is no ``preprocessing.json`` beside it.
        FedliteError: that is damaged.
    """
    path = choose_model(model_path).with_name("preprocessing.json")
    return read_preprocessing(path).kind


def class_names(model_path: Path) -> list[str]:
    """The classes that a model answers, in the order of its logits.

    Raises:
        UsageError: there is no ``labels.json`` beside it.
        FedliteError: that is damaged.
    """
    path = choose_model(model_path).with_name("labels.json")
    labels = read_json(path)
    if not isinstance(labels, list):
        raise FedliteError(f"{path}: damaged; must be a list of class names")
    return [str(label) for label in labels]


def choose_model(path: Path) -> Path:
    """``path``, or in a deployable folder ``student.onnx``, or the first of its manifest.

    Raises:
        FedliteError: the manifest is damaged.
    """
    if not path.is_dir() or path.suffix == ".mlpackage":  # a Core ML model is a folder, too
        return path
    if (path / DEFAULT).is_file() or not (path / MANIFEST).is_file():
        return path / DEFAULT
    entries = read_json(path / MANIFEST)
    try:
        name = str(entries[0]["file"])
    except (LookupError, TypeError) as error:
        raise FedliteError(f"{path / MANIFEST}: names no model") from error
    if Path(name).name != name:
        raise FedliteError(f"{path / MANIFEST}: names {name}, which is not a file of the folder")
    return path / name
