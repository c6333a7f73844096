"""Exported files in the runtimes that serve them; LiteRT files come ready made."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.compare import snr_db
from fedlite.compress.format import suffix_of
from fedlite.compress.options import FORMATS
from fedlite.serve.runtime import RUNTIMES, kinds, logits_of, open_runtime, runs_here, size_of
from tests.compress.conftest import Digits

FILES = Path(__file__).parent / "files"


@pytest.fixture(scope="module")
def tiny() -> dict[str, np.ndarray]:
    """Inputs and torch's logits of the network in the ``tiny_*.tflite`` files."""
    with np.load(FILES / "tiny.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize(("name", "least_db"), [("fp32", 100), ("int8", 25)])
def test_litert_answers_like_the_network(tiny, name, least_db):
    runtime = open_runtime(FILES / f"tiny_{name}.tflite")
    assert runtime.name.startswith("litert 2.")
    assert runtime.input_shape == (1, 8, 8)
    assert runtime.batch_size == 1
    found = logits_of(runtime, tiny["inputs"], batch_size=5)
    assert found.dtype == np.float32
    assert snr_db(tiny["logits"], found) > least_db


def test_onnx_takes_any_batch_at_once(student_path, digits: Digits):
    runtime = open_runtime(student_path, threads=2)
    assert runtime.name.startswith("onnxruntime 1.")
    assert runtime.batch_size is None
    assert runtime.input_shape == (1, 8, 8)
    inputs = digits.test.inputs[:7].numpy()
    np.testing.assert_allclose(logits_of(runtime, inputs, 3), runtime.run(inputs), atol=1e-5)


@pytest.mark.parametrize("name", ["student.onnx", "student.tflite"])
def test_missing_and_damaged_files_are_one_line(student_path, tmp_path, name):
    path = tmp_path / name
    with pytest.raises(UsageError, match="no such file"):
        open_runtime(path)
    whole = student_path if path.suffix == ".onnx" else FILES / "tiny_fp32.tflite"
    path.write_bytes(whole.read_bytes()[:700])
    with pytest.raises(FedliteError, match="damaged") as caught:
        open_runtime(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_nothing_runs_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"give \.mlpackage, \.pte, \.tflite, \.onnx$"):
        open_runtime(tmp_path / "student.pt")
    assert not runs_here(tmp_path / "student.pt")
    assert runs_here(tmp_path / "student.onnx")
    assert runs_here(tmp_path / "student.tflite")


def test_every_runtime_serves_the_suffix_of_its_format():
    assert {name: kind.suffix for name, kind in kinds().items()} == {
        name: suffix_of(name) for name in RUNTIMES.names()
    }
    assert set(RUNTIMES.names()) == set(FORMATS.names())


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_core_ml_says_where_it_runs(tmp_path):
    (tmp_path / "student.mlpackage").mkdir()
    assert not runs_here(tmp_path / "student.mlpackage")
    with pytest.raises(FedliteError, match="macOS only"):
        open_runtime(tmp_path / "student.mlpackage")


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(bytes(10))
    (tmp_path / "a" / "b" / "two").write_bytes(bytes(32))
    assert size_of(tmp_path / "a") == 42
    assert size_of(tmp_path / "a" / "one") == 10


def test_running_a_file_needs_no_torch(student_path):
    lines = [
        "import sys, pathlib, numpy",
        "from fedlite.serve.runtime import open_runtime",
        "for path in sys.argv[1:]:",
        "    runtime = open_runtime(pathlib.Path(path))",
        "    runtime.run(numpy.zeros((2, *runtime.input_shape), numpy.float32))",
        "assert 'torch' not in sys.modules",
    ]
    files = [str(student_path), str(FILES / "tiny_fp32.tflite")]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines), *files], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
