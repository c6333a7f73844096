"""Measures of an exported file, and the process that takes them."""

import json
import subprocess
import sys

import pytest

from fedlite.compress.measure import evaluate_onnx, measure_onnx
from fedlite.config import MeasureConfig
from fedlite.distill.evaluate import evaluate_model
from fedlite.errors import FedliteError, UsageError

from .conftest import Digits

QUICK = MeasureConfig(threads=1, warmup=2, runs=20)


def test_measures_are_those_of_the_file(student, student_path, digits: Digits):
    found = measure_onnx(student_path, digits.test, 10, 1234, QUICK)
    expected = evaluate_model(student, digits.test, 10)
    assert (found.accuracy, found.macro_f1) == (expected.accuracy, expected.macro_f1)
    assert found.bytes == student_path.stat().st_size
    assert found.parameters == 1234
    assert 0 < found.latency_ms_p50 <= found.latency_ms_p95
    assert found.runtime.startswith("onnxruntime ")


def test_memory_is_that_of_runtime_and_model_alone(student_path, digits: Digits):
    """Torch alone takes some 200 MB; a fresh interpreter with the runtime well under that."""
    held = bytearray(400_000_000)  # of this process, which must not count
    held[::4096] = b"x" * len(held[::4096])
    found = measure_onnx(student_path, digits.test, 10, 0, QUICK)
    assert 10_000_000 < found.peak_memory_bytes < 200_000_000


@pytest.mark.parametrize("module", ["measure_worker", "predict"])
def test_the_light_modules_do_not_import_torch(module):
    code = f"import sys, fedlite.compress.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_worker_prints_one_line_of_json(student_path):
    command = [sys.executable, "-m", "fedlite.compress.measure_worker", str(student_path)]
    done = subprocess.run([*command, "--runs", "5"], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == {
        "latency_ms_p50",
        "latency_ms_p95",
        "peak_memory_bytes",
    }
    done = subprocess.run(
        [*command[:-1], str(student_path) + "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_and_damaged_files_are_told_in_one_line(digits: Digits, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        measure_onnx(tmp_path / "none.onnx", digits.test, 10, 0, QUICK)
    (tmp_path / "damaged.onnx").write_bytes(b"\x00" * 100)
    with pytest.raises(FedliteError, match="damaged"):
        evaluate_onnx(tmp_path / "damaged.onnx", digits.test, 10)
