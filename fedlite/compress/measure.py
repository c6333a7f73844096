"""Measuring models where they serve: each in a fresh process that holds its runtime alone."""

import copy
import gzip
import json
import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedlite.base.elsewhere import run_module
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.records import Cost, Latency, Measurement
from fedlite.compress.options import MeasureOptions
from fedlite.data.types import PublicData, TestData
from fedlite.distill.evaluate import evaluate_logits
from fedlite.serve.runtime import size_of


def measure_file(
    path: Path,
    data: PublicData | TestData,
    num_classes: int,
    parameters: int,
    config: MeasureOptions,
    python: str | None = None,
) -> Measurement:
    """Quality and cost of the file at ``path``, all of it in its own runtime in a fresh process.

    Args:
        path: an exported file; its suffix says which runtime.
        data: inputs (n, *input_shape), normalised, and labels.
        num_classes: number of logits.
        parameters: of the model that was exported; handed on.
        config: threads, warm-up, timed runs and batch sizes.
        python: an interpreter of another environment that has the runtime; None is this one.

    Raises:
        UsageError: no such file or interpreter.
        FedliteError: the file is damaged, its runtime is missing, or the process fails.
    """
    _require(path)
    with tempfile.TemporaryDirectory() as folder:
        inputs, logits = Path(folder) / "inputs.npy", Path(folder) / "logits.npy"
        np.save(inputs, data.inputs.numpy())
        extra = ["--inputs", str(inputs), "--logits", str(logits)]
        cost = _file_cost(path, config, python, extra)
        answered = np.load(logits)
    evaluation = evaluate_logits(answered, data.labels, num_classes)
    return Measurement(evaluation.accuracy, evaluation.macro_f1, parameters, cost, answered)


def measure_cost(path: Path, config: MeasureOptions, python: str | None = None) -> Cost:
    """What the file at ``path`` costs; arguments and errors as in :func:`measure_file`.

    Inputs are Gaussian noise of the shape that the file takes. Latencies are of whole calls of the
    runtime, from an array to an array; a batch size is timed for ten seconds at most. ``load_ms``
    is the median of five openings with the runtime imported and the file in the system's cache.
    Memory is the peak of opening the file and answering the smallest batch.
    """
    _require(path)
    return _file_cost(path, config, python, [])


def measure_eager(
    model: nn.Module,
    config: MeasureOptions,
    input_shape: tuple[int, ...],
    input_type: str = "float32",
) -> Cost:
    """What ``model`` costs in eager torch: the baseline of its exported files.

    Arguments and figures as in :func:`measure_cost`; ``bytes`` is the size of the saved state dict,
    and ``input_type`` is int64 where ``model`` takes numbers of tokens.

    Raises:
        FedliteError: the model's class cannot be imported elsewhere, or the process fails.
    """
    model = copy.deepcopy(model).cpu().eval()
    with tempfile.TemporaryDirectory() as folder:
        path, weights = Path(folder) / "model.pt", Path(folder) / "weights.pt"
        torch.save(model.state_dict(), weights)
        try:
            torch.save(model, path)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise FedliteError(f"measuring {type(model).__name__} in torch: {error}") from error
        extra = ["--input-shape", *map(str, input_shape), "--input-type", input_type]
        name = f"{type(model).__name__} in torch"
        return _cost(
            _work("fedlite.compress.measure_eager_worker", path, config, None, extra, name), weights
        )


def _require(path: Path) -> None:
    if not path.exists():
        raise UsageError(f"{path}: no such file; expected an exported model")


def _file_cost(
    path: Path, config: MeasureOptions, python: str | None, extra: Sequence[str]
) -> Cost:
    return _cost(
        _work("fedlite.serve.measure_worker", path, config, python, extra, str(path)), path
    )


def _cost(facts: dict[str, Any], path: Path) -> Cost:
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    return Cost(
        bytes=size_of(path),
        gzip_bytes=sum(len(gzip.compress(one.read_bytes(), mtime=0)) for one in files),
        latency_ms={size: Latency(**found) for size, found in facts["latency_ms"].items()},
        load_ms=facts["load_ms"],
        peak_memory_bytes=facts["peak_memory_bytes"],
        runtime=facts["runtime"],
        joules=facts["joules"],
    )


def _work(
    module: str,
    path: Path,
    config: MeasureOptions,
    python: str | None,
    extra: Sequence[str],
    name: str,
) -> dict[str, Any]:
    """What a measuring process found out; ``name`` says in errors what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "facts.json"
        options: dict[str, Sequence[object]] = {
            "--out": [out],
            "--threads": [config.threads],
            "--warmup": [config.warmup],
            "--runs": [config.runs],
            "--batch-sizes": config.batch_sizes,
        }
        arguments = [str(part) for key, values in options.items() for part in (key, *values)]
        try:
            run_module(module, [str(path.resolve()), *arguments, *extra], python)
        except UsageError:
            raise
        except FedliteError as error:
            if name in str(error):
                raise
            raise FedliteError(f"measuring {name} failed: {error}") from error
        facts: dict[str, Any] = json.loads(out.read_text())
        return facts
