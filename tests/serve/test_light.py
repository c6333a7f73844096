"""Serving is light: what ships answers where torch, Flower and Hydra cannot be imported."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedlite.serve.predict import predict
from tests.compress.bundles import ship
from tests.compress.conftest import Digits

HEAVY = ("torch", "flwr", "hydra", "omegaconf", "opacus", "optuna", "onnx", "sklearn", "matplotlib")
ALONE = f"""
import json, pathlib, sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise AssertionError(f"{{name}} was imported")

sys.meta_path.insert(0, Refusing())
arguments = [pathlib.Path(text) for text in sys.argv[1:]]
"""
PREDICT = """
from fedlite.serve.predict import predict
print(json.dumps([one.probabilities for one in predict(*arguments)]))
"""
RUN = """
import numpy
from fedlite.serve.runtime import logits_of, open_runtime
runtime = open_runtime(arguments[0])
with numpy.load(arguments[1]) as stored:
    print(json.dumps(logits_of(runtime, stored["inputs"]).tolist()))
"""
VERIFY = """
from fedlite.serve.verify import verify_bundle
print(json.dumps(verify_bundle(arguments[0]).faults))
"""


def alone(script: str, *arguments: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", ALONE + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def bundle(tmp_path: Path, student_path: Path, digits: Digits) -> Path:
    return ship(tmp_path / "deploy", student_path, digits).parent


def test_a_bundle_predicts_without_torch_flower_and_hydra(
    bundle: Path, digits: Digits, tmp_path: Path
) -> None:
    np.savez(tmp_path / "some.npz", inputs=digits.raw[:5].numpy())
    done = alone(PREDICT, bundle, tmp_path / "some.npz")
    assert (done.returncode, done.stderr) == (0, "")
    here = [one.probabilities for one in predict(bundle, tmp_path / "some.npz")]
    assert json.loads(done.stdout) == [[list(pair) for pair in one] for one in here]


def test_a_litert_file_answers_without_them() -> None:
    files = Path(__file__).parent / "files"
    done = alone(RUN, files / "tiny_fp32.tflite", files / "tiny.npz")
    assert done.returncode == 0, done.stderr
    with np.load(files / "tiny.npz") as stored:
        np.testing.assert_allclose(json.loads(done.stdout), stored["logits"], atol=1e-4)


def test_a_bundle_is_verified_without_them(bundle: Path) -> None:
    (bundle / "labels.json").write_text("[]")
    done = alone(VERIFY, bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == ["labels.json: changed"]


@pytest.mark.parametrize("module", ["fedlite.distill.loss", "fedlite.runs.compose"])
def test_what_is_not_light_is_caught(module: str) -> None:
    """The test itself is able to fail."""
    done = alone(f"import {module}")
    assert done.returncode == 1
    assert "was imported" in done.stderr
