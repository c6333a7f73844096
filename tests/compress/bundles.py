"""Deployable folders for tests, and what was measured of them."""

from pathlib import Path
from typing import Any

from fedlite.compress.bundle import write_bundle
from tests.compress.conftest import Digits

REPORT: dict[str, Any] = {
    "models": {
        "quantized_student": {
            "accuracy": 0.95,
            "latency_ms": {"p50": 0.021, "p95": 0.034},
            "runtime": "onnxruntime 1.31.1 cpu",
        }
    },
    "dataset": {"name": "digits", "public": 1000, "private": 0, "test": 797},
    "federation": {"num_clients": 20, "rounds": 20, "strategy": "fedavg"},
    "compression": {
        "ratio": 0.3,
        "sparsity": 0.0,
        "quantization": "static",
        "parameters_after": 9258,
        "float_ops": ["Add"],
    },
    "config": {
        "student": {"name": "cnn"},
        "teacher": {"name": "wide_cnn"},
        "compress": {"measure": {"threads": 1}},
    },
    "environment": {"platform": "Linux-6", "cores": 2},
}


def entry_of(file: str, format: str = "onnx", precision: str = "int8") -> dict[str, Any]:
    return {
        "file": file,
        "name": f"quantized_student.{format}",
        "model": "quantized_student",
        "format": format,
        "precision": precision,
    }


def ship(
    directory: Path,
    model: Path,
    digits: Digits,
    *,
    statement: str = "Epsilon 8.",
    report: dict[str, Any] = REPORT,
    more: dict[str, Path] | None = None,
    calibration: dict[str, dict[str, float]] | None = None,
    signing_key: Path | None = None,
) -> Path:
    """Write a folder with ``model`` and, by file name, ``more`` artefacts; return the model."""
    more = more or {}
    write_bundle(
        directory,
        {"student.onnx": model, **more},
        [entry_of("student.onnx"), *(entry_of(file, "coreml", "fp16") for file in more)],
        digits.task,
        report,
        privacy_statement=statement,
        metrics_table="| model | accuracy |\n| - | - |\n| cnn | 0.95 |",
        calibration=calibration,
        signing_key=signing_key,
    )
    return directory / "student.onnx"
