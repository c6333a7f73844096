"""Measuring an exported file in the runtime that serves it: quality here, cost in a new process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fedlite
from fedlite.compress.runtime import logits_of, open_session, runtime_name
from fedlite.config import MeasureConfig
from fedlite.data.types import TestData
from fedlite.distill.evaluate import evaluate_logits
from fedlite.errors import FedliteError
from fedlite.records import Evaluation, Measurement


def evaluate_onnx(path: Path, test: TestData, num_classes: int) -> Evaluation:
    """Measures of the file at ``path`` on ``test``, computed by ONNX Runtime."""
    logits = logits_of(open_session(path), test.inputs.numpy())
    return evaluate_logits(logits, test.labels, num_classes)


def measure_onnx(
    path: Path, test: TestData, num_classes: int, parameters: int, config: MeasureConfig
) -> Measurement:
    """Quality, size, latency at batch 1 and peak memory of the file at ``path``.

    Latency and memory are taken in a fresh process that holds nothing but runtime and model.

    Args:
        path: an exported file.
        test: inputs (n, *input_shape), normalised, and labels.
        num_classes: number of logits.
        parameters: of the model that was exported; handed on.
        config: threads, warm-up and timed runs.

    Raises:
        UsageError: no such file.
        FedliteError: the file is damaged, or the process that measures fails.
    """
    evaluation = evaluate_onnx(path, test, num_classes)
    cost = _cost(path, config)
    return Measurement(
        accuracy=evaluation.accuracy,
        macro_f1=evaluation.macro_f1,
        parameters=parameters,
        bytes=path.stat().st_size,
        latency_ms_p50=cost["latency_ms_p50"],
        latency_ms_p95=cost["latency_ms_p95"],
        peak_memory_bytes=int(cost["peak_memory_bytes"]),
        runtime=runtime_name(),
    )


def _cost(path: Path, config: MeasureConfig) -> dict[str, float]:
    options = {"--threads": config.threads, "--warmup": config.warmup, "--runs": config.runs}
    command = [sys.executable, "-m", "fedlite.compress.measure_worker", str(path.resolve())]
    command += [part for key, value in options.items() for part in (key, str(value))]
    package_root = str(Path(fedlite.__file__).resolve().parent.parent)
    search = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": str(config.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise FedliteError(f"measuring {path} failed: {reason}")
    cost: dict[str, float] = json.loads(done.stdout)
    return cost
