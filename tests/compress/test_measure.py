"""Measures of exported files, and the processes that take them."""

import dataclasses
import gzip
import json
import subprocess
import sys
import threading
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.records import Latency
from fedlite.compress.measure import measure_cost, measure_eager, measure_file
from fedlite.compress.options import MeasureOptions
from fedlite.distill.evaluate import evaluate_model
from fedlite.models.build import build_model
from fedlite.serve.kind import Array
from fedlite.serve.measure_worker import cost_facts, described, latency_ms
from tests.compress.conftest import MLP, SHAPE, Digits
from tests.tasks import shaped

QUICK = MeasureOptions(threads=1, warmup=2, runs=20, batch_sizes=[1, 8])


class Fixed:
    """A runtime whose file takes batches of ``batch_size`` alone; it keeps what it was asked."""

    name = "fixed 1.0 cpu"
    input_shape = (2,)
    input_type = "float32"

    def __init__(self, batch_size: int | None = None) -> None:
        self.batch_size = batch_size
        self.asked: list[tuple[int, ...]] = []

    def run(self, batch: Array) -> Array:
        """Keeps the shape, answers zeros."""
        self.asked.append(batch.shape)
        return np.zeros((len(batch), 3), np.float32)


def test_measures_are_those_of_the_file(student, student_path, digits: Digits):
    found = measure_file(student_path, digits.test, 10, 1234, QUICK)
    expected = evaluate_model(student, digits.test, 10)
    assert (found.accuracy, found.macro_f1) == (expected.accuracy, expected.macro_f1)
    assert found.parameters == 1234
    cost = found.cost
    assert cost.bytes == student_path.stat().st_size
    assert cost.gzip_bytes == len(gzip.compress(student_path.read_bytes(), mtime=0))
    assert set(cost.latency_ms) == {"1", "8"}
    for latency in cost.latency_ms.values():
        assert 0 < latency.min <= latency.p50 <= latency.p95
    assert cost.load_ms > 0
    assert cost.runtime.startswith("onnxruntime ")
    assert cost.runtime.endswith(", 1 thread")


def test_memory_is_that_of_runtime_and_model_alone(student_path):
    """Torch alone takes some 200 MB; a fresh interpreter with the runtime well under that."""
    held = bytearray(400_000_000)  # of this process, which must not count
    held[::4096] = b"x" * len(held[::4096])
    assert 10_000_000 < measure_cost(student_path, QUICK).peak_memory_bytes < 200_000_000


def test_eager_torch_is_measured_the_same_way(student, tmp_path):
    cost = measure_eager(student, QUICK, SHAPE)
    torch.save(student.state_dict(), tmp_path / "weights.pt")
    assert cost.bytes == (tmp_path / "weights.pt").stat().st_size
    assert set(cost.latency_ms) == {"1", "8"}
    assert cost.runtime == f"torch {torch.__version__.split('+')[0]} eager cpu, 1 thread"
    assert cost.peak_memory_bytes > 100_000_000  # torch itself


def test_eager_leaves_the_model_as_it_was():
    model = build_model(MLP, shaped(SHAPE, 10), seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_eager(model, dataclasses.replace(QUICK, runs=2), SHAPE)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_model_that_cannot_travel_is_told_in_one_line():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.lock = threading.Lock()
    model.__deepcopy__ = lambda memo: model
    with pytest.raises(FedliteError, match="measuring Sequential in torch"):
        measure_eager(model, QUICK, SHAPE)


def test_every_batch_size_is_timed_as_asked(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")  # it would be told
    opened: list[Fixed] = []

    def open_model() -> Fixed:
        opened.append(Fixed())
        return opened[-1]

    options = Namespace(threads=2, warmup=3, runs=5, batch_sizes=[32, 1])
    facts = cost_facts(open_model, options)
    assert opened[0].asked == [(1, 2)] * 8 + [(32, 2)] * 8
    assert list(facts["latency_ms"]) == ["1", "32"]
    assert facts["runtime"] == "fixed 1.0 cpu, 2 threads"
    assert len(opened) == 6  # the others for the load time alone
    assert all(not one.asked for one in opened[1:])


def test_quantiles_are_those_of_the_timed_calls(monkeypatch):
    clock = iter([0.0, *(t for call in range(1, 101) for t in (0.0, call / 1e3, 0.0)), 0.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    found = latency_ms(lambda batch: None, np.zeros((1, 2), np.float32), 0, 100)
    assert found["min"] == pytest.approx(1)
    assert found["p50"] == pytest.approx(50.5)
    assert found["p95"] == pytest.approx(95.05)


def test_a_slow_model_is_called_until_ten_seconds_are_over(monkeypatch):
    now = [0.0]

    def call(batch: Array) -> None:
        now[0] += 4.0

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    found = latency_ms(call, np.zeros((1, 2), np.float32), 0, 100)
    assert now[0] == 12.0
    assert found["p50"] == pytest.approx(4000)


@pytest.mark.parametrize(
    ("batch_size", "largest", "looped"), [(None, 32, False), (1, 1, False), (1, 32, True)]
)
def test_a_file_of_one_batch_size_says_that_it_is_looped(batch_size, largest, looped, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    words = described(Fixed(batch_size), 1, largest)
    assert ("batches over 1 looped" in words) is looped


def test_a_runtime_that_brings_torch_along_says_so():
    assert "memory includes torch" in described(Fixed(), 1, 32)  # torch is imported here


@pytest.mark.parametrize("module", ["measure_worker", "predict"])
def test_the_light_modules_do_not_import_torch(module):
    code = f"import sys, fedlite.serve.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_student_is_measured_in_torch_without_opacus():
    """Its memory would count."""
    modules = "fedlite.compress.measure_eager_worker, fedlite.models.cnn, fedlite.models.wide_cnn"
    code = f"import sys, {modules}; print('opacus' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_worker_writes_json_or_says_in_one_line_why_not(student_path, tmp_path):
    module = [sys.executable, "-m", "fedlite.serve.measure_worker"]
    out = tmp_path / "facts.json"
    subprocess.run([*module, student_path, "--out", out, "--runs", "5"], check=True)
    assert set(json.loads(out.read_text())) == {
        "latency_ms",
        "load_ms",
        "peak_memory_bytes",
        "joules",
        "runtime",
    }
    done = subprocess.run(
        [*module, tmp_path / "none.onnx", "--out", tmp_path / "none"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no such file" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_another_interpreter_can_be_asked(student_path, digits: Digits, tmp_path):
    """It sees this package by itself: of this environment nothing is on its path."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\necho "$PYTHONPATH" > {tmp_path}/seen\nls "$PYTHONPATH" >> {tmp_path}/seen\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    found = measure_file(student_path, digits.test, 10, 0, QUICK, python=str(python))
    assert found.accuracy == measure_file(student_path, digits.test, 10, 0, QUICK).accuracy
    folder, *names = (tmp_path / "seen").read_text().split()
    assert names == ["fedlite"]
    assert not Path(folder).exists()  # the link went with its folder


@pytest.mark.parametrize("content", [None, "#!/bin/sh\necho 'no module named numpy' >&2\nexit 3\n"])
def test_an_interpreter_that_fails_is_told_in_one_line(student_path, tmp_path, content):
    python = tmp_path / "python"
    if content is not None:
        python.write_text(content)
        python.chmod(0o755)
    expected = "cannot be started" if content is None else "no module named numpy"
    with pytest.raises(FedliteError, match=expected) as error:
        measure_cost(student_path, QUICK, python=str(python))
    assert "\n" not in str(error.value)


def test_a_folder_counts_with_all_its_files(tmp_path):
    folder = tmp_path / "student.mlpackage" / "Data"
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"w" * 1000)
    (folder.parent / "Manifest.json").write_text("{}")
    facts = {
        "latency_ms": {"1": {"p50": 2.0, "p95": 3.0, "min": 1.0}},
        "load_ms": 1.0,
        "peak_memory_bytes": 5,
        "joules": None,
        "runtime": "that of another machine",
    }
    python = tmp_path / "python"
    find_out = 'while [ "$1" != --out ]; do shift; done'
    python.write_text(f"#!/bin/sh\n{find_out}\necho '{json.dumps(facts)}' > \"$2\"\n")
    python.chmod(0o755)
    cost = measure_cost(folder.parent, QUICK, python=str(python))
    assert cost.bytes == 1002
    assert cost.gzip_bytes < 100
    assert cost.latency_ms["1"] == Latency(p50=2.0, p95=3.0, min=1.0)


def test_missing_and_damaged_files_are_told_in_one_line(digits: Digits, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        measure_file(tmp_path / "none.onnx", digits.test, 10, 0, QUICK)
    (tmp_path / "damaged.onnx").write_bytes(b"\x00" * 100)
    with pytest.raises(FedliteError, match="damaged") as error:
        measure_cost(tmp_path / "damaged.onnx", QUICK)
    assert "\n" not in str(error.value)
