"""An exported file against the model it was made of, judged on public data, in its own runtime."""

import copy
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedlite.base.elsewhere import MissingPackageError, run_module
from fedlite.base.errors import FedliteError
from fedlite.base.records import METRIC_NAMES, Metric
from fedlite.compress.format import format_of, name_of
from fedlite.data.types import PublicData, Task
from fedlite.distill.evaluate import evaluate_logits
from fedlite.distill.public import require_public
from fedlite.serve.kind import Array
from fedlite.serve.runtime import logits_of, open_runtime, runs_here

MAX_DB = 200.0  # stands for equal logits; JSON has no infinity


@dataclass(frozen=True)
class Comparison:
    """A file and its model on the same public examples.

    ``snr_db`` is the signal-to-noise ratio of the file's logits, see :func:`snr_db`;
    ``agreement`` the share of examples on which both choose the same class; ``accuracy`` is the
    file's and ``reference_accuracy`` the model's. ``macro_f1`` is the file's.
    """

    snr_db: float
    agreement: float
    accuracy: float
    reference_accuracy: float
    macro_f1: float


def runs_in(path: Path, python: str | None = None) -> bool:
    """Whether the file's runtime runs here, in this Python or in ``python`` of another one."""
    if python is None or path.suffix == ".mlpackage":
        return runs_here(path)
    return name_of(path) is not None


def compare(
    path: Path, model: nn.Module, public: PublicData, python: str | None = None
) -> Comparison:
    """Compare the file at ``path`` with ``model``, from which it was made, on ``public``.

    Args:
        path: an exported file; its suffix says which runtime.
        model: run in eval mode; left as it is.
        public: inputs (n, *input_shape), normalised, and labels.
        python: of another environment that has the runtime; None is this one.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
        UsageError: no such file.
        FedliteError: the file is damaged, or its runtime is missing or does not run here.
    """
    require_public(public)
    with torch.no_grad():
        reference = copy.deepcopy(model).cpu().eval()
        expected = torch.cat([reference(part) for part in torch.split(public.inputs, 256)]).numpy()
    found = file_logits(path, public.inputs.numpy(), python)
    if found.shape != expected.shape:
        raise FedliteError(f"{path}: answers {found.shape[1:]}, the model {expected.shape[1:]}")
    labels = public.labels.numpy()
    judged = evaluate_logits(found, labels, found.shape[1])
    chosen, reference_chosen = found.argmax(axis=1), expected.argmax(axis=1)
    return Comparison(
        snr_db=snr_db(expected, found),
        agreement=float(np.mean(chosen == reference_chosen)),
        accuracy=judged.accuracy,
        reference_accuracy=float(np.mean(reference_chosen == labels)),
        macro_f1=judged.macro_f1,
    )


def snr_db(reference: Array, found: Array) -> float:
    """``10 log10(sum reference^2 / sum (reference - found)^2)``, in decibels.

    Cut to ±200: equal arrays give 200, and any value that is not finite gives -200.
    """
    signal = reference.astype(np.float64)
    noise = float(np.sum((signal - found) ** 2))
    power = float(np.sum(signal**2))
    if not math.isfinite(noise) or (power == 0 < noise):
        return -MAX_DB
    if noise == 0:
        return MAX_DB
    return max(-MAX_DB, min(MAX_DB, 10 * math.log10(power / noise)))


def why_refused(
    comparison: Comparison,
    *,
    full_score: float,
    min_snr_db: float,
    max_accuracy_drop: float,
    metric: Metric = "accuracy",
) -> str:
    """Why a file does not ship, in one line with the numbers; empty if it may.

    Args:
        comparison: of the file.
        full_score: of the student at full width on the same examples, by ``metric``.
        min_snr_db: ``compress.min_snr_db``; a file at the bound passes.
        max_accuracy_drop: ``compress.max_accuracy_drop``; a file at the bound passes.
        metric: ``dataset.metric``.
    """
    noise = too_noisy(comparison, min_snr_db)
    reasons = [noise] if noise else []
    score: float = getattr(comparison, metric)
    drop = full_score - score
    if drop > max_accuracy_drop + 1e-9:  # of floating point
        reasons.append(
            f"{METRIC_NAMES[metric]} {score:.4f} on public data is {drop:.4f} below the student's"
            f" at full width, over compress.max_accuracy_drop={max_accuracy_drop:g}"
        )
    return "; ".join(reasons)


def too_noisy(comparison: Comparison, min_snr_db: float) -> str:
    """Why a file is too far from its model, in one line; empty if it is not."""
    if comparison.snr_db >= min_snr_db:
        return ""
    return (
        f"its logits are {comparison.snr_db:.1f} dB above the error, under"
        f" compress.min_snr_db={min_snr_db:g}"
    )


def check_structure(path: Path, task: Task, python: str | None = None) -> None:
    """Check what can be known of a Core ML package without running it.

    It must load; take ``input`` (1, *task.input_shape) and answer ``logits`` (1, classes), both
    float32; hold operators and weights.

    Args:
        path: the package.
        task: what the model sees and answers.
        python: of another environment that has coremltools; None is this one.

    Raises:
        FedliteError: the package is damaged or another model's, or its format's package is not
            installed.
    """
    name = name_of(path)
    assert name is not None, path
    form = format_of(name)
    if path.suffix != ".mlpackage":
        raise FedliteError(
            f"{path}: cannot be checked, {form.needs} is not installed: pip install"
            f" 'fedlite[{form.extra}]'"
        )
    with tempfile.TemporaryDirectory() as folder:
        facts_path = Path(folder) / "facts.json"
        arguments = ["--read", str(path.resolve()), str(facts_path)]
        try:
            run_module("fedlite.compress.converters.coreml", arguments, python)
        except MissingPackageError as error:
            raise FedliteError(f"{path}: cannot be checked: {error}") from error
        except FedliteError as error:
            raise FedliteError(f"{path}: not a Core ML package, or damaged") from error
        facts = json.loads(facts_path.read_text())
    expected = {
        "inputs": [["input", [1, *task.input_shape], "FLOAT32"]],
        "outputs": [["logits", [1, task.num_classes], "FLOAT32"]],
    }
    for key, wanted in expected.items():
        if facts[key] != wanted:
            raise FedliteError(f"{path}: its {key} are {facts[key]}; expected {wanted}")
    if not facts["operators"] or not facts["weights"]:
        raise FedliteError(f"{path}: holds no operators or no weights")


def file_logits(path: Path, inputs: Array, python: str | None = None) -> Array:
    """Logits (n, classes) of the file at ``path`` for normalised ``inputs`` (n, *input_shape).

    Args:
        path: an exported file; its suffix says which runtime.
        inputs: in the file's own order of dimensions.
        python: of another environment that has the runtime; None is this one.

    Raises:
        UsageError: no such file.
        FedliteError: the file is damaged, or its runtime is missing or does not run here.
    """
    if python is None:
        return logits_of(open_runtime(path), inputs)
    with tempfile.TemporaryDirectory() as folder:
        given, answered = Path(folder) / "inputs.npy", Path(folder) / "logits.npy"
        np.save(given, inputs)
        arguments = [str(path.resolve()), str(given), str(answered)]
        run_module("fedlite.serve.runtime_worker", arguments, python)
        logits: Array = np.load(answered)
    return logits
