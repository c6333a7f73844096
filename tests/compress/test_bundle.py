"""The deployable folder: whole, described, with a card that says what counts."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.intervals import wilson_interval
from fedlite.serve.calibration import Calibration, read_calibration
from fedlite.serve.verify import verify_bundle
from tests.compress.bundles import REPORT, ship
from tests.compress.conftest import Digits


@pytest.fixture
def model(tmp_path: Path, student_path: Path, digits: Digits) -> Path:
    return ship(tmp_path / "deploy", student_path, digits)


@pytest.fixture
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is a folder, as Core ML's are."""
    folder = tmp_path_factory.mktemp("coreml") / "made.mlpackage"
    (folder / "Data").mkdir(parents=True)
    (folder / "Manifest.json").write_text("{}")
    (folder / "Data" / "weights.bin").write_bytes(b"12345")
    return folder


def test_the_folder_is_whole_and_its_sums_hold(model: Path, student_path: Path):
    folder = model.parent
    assert {path.name for path in folder.iterdir()} == {
        "student.onnx",
        "labels.json",
        "preprocessing.json",
        "manifest.json",
        "MODEL_CARD.md",
        "SHA256SUMS",
    }
    assert model.read_bytes() == student_path.read_bytes()
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, check=True)
    model.write_bytes(model.read_bytes() + b"x")
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, check=False)
    assert done.returncode == 1


def test_sums_cover_the_files_of_a_model_that_is_a_folder(
    tmp_path, student_path, package, digits: Digits
):
    deploy = ship(tmp_path / "d", student_path, digits, more={"student.mlpackage": package}).parent
    sums = (deploy / "SHA256SUMS").read_text()
    assert "  student.mlpackage/Data/weights.bin\n" in sums
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=deploy, check=True)
    (coreml, onnx) = json.loads((deploy / "manifest.json").read_text())
    assert (coreml["file"], coreml["bytes"]) == ("student.mlpackage", 7)
    assert onnx["bytes"] == student_path.stat().st_size


def test_the_manifest_says_what_each_file_is(model: Path, digits: Digits):
    (entry,) = json.loads((model.parent / "manifest.json").read_text())
    assert entry["runtime"].startswith("onnxruntime ")
    expected = {
        "file": "student.onnx",
        "name": "quantized_student.onnx",
        "format": "onnx",
        "precision": "int8",
        "batch": "any",
        "input": {"name": "input", "type": "float32", "shape": [1, 8, 8]},
        "output": {"name": "logits", "type": "float32", "shape": [10]},
    }
    assert entry | expected == entry


def test_the_card_says_what_how_private_how_good_and_its_limits(model: Path):
    card = (model.parent / "MODEL_CARD.md").read_text()
    low, high = wilson_interval(0.95, 797)
    for words in (
        "Epsilon 8.",
        "| cnn | 0.95 |",
        "9,258 parameters",
        "one image of a handwritten",
        f"95.0% ({low:.1%} to {high:.1%})",
        "0.021 / 0.034 (batch 1)",
        "1 thread(s), in a fresh process on Linux-6 with 2 cores",
        "must not decide alone",
        "known to 3.5 points",
        "Still computed in float: Add.",
        "not signed",
    ):
        assert words in card


def test_the_card_prefers_what_was_measured_of_the_file_itself(
    tmp_path, student_path, digits: Digits
):
    artefacts = [
        {
            "name": "quantized_student.onnx",
            "accuracy": 0.5,
            "latency_ms_by_batch": {"32": {"p50": 1.5, "p95": 2.5}},
            "runtime": "another",
            "refused": "",
        },
        {"name": "quantized_student.executorch", "refused": "SNR 12.1 dB is below 20"},
    ]
    model = ship(tmp_path / "d", student_path, digits, report={**REPORT, "artefacts": artefacts})
    card = (model.parent / "MODEL_CARD.md").read_text()
    assert "| 50.0% (46.5% to 53.5%) | 1.500 / 2.500 (batch 32) | another |" in card
    assert "`quantized_student.executorch` does not ship: SNR 12.1 dB" in card


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    [(0.5, 10, 0.236593, 0.763407), (0.0, 20, 0.0, 0.161125), (1.0, 5, 0.565518, 1.0)],
)
def test_the_interval_is_wilsons(share, count, low, high):
    """Reference values: statsmodels 0.14, ``proportion_confint(method="wilson")``."""
    assert wilson_interval(share, count) == pytest.approx((low, high), abs=1e-6)


def test_what_was_calibrated_lies_beside_the_model_and_the_card_says_so(
    tmp_path: Path, student_path: Path, digits: Digits
):
    plain = ship(tmp_path / "plain", student_path, digits).parent
    assert "Its probabilities were not calibrated." in (plain / "MODEL_CARD.md").read_text()
    assert not (plain / "calibration.json").exists()
    known = {"student.onnx": {"temperature": 1.5, "examples": 90, "threshold": 0.8}}
    folder = ship(tmp_path / "calibrated", student_path, digits, calibration=known).parent
    assert "were calibrated on public data" in (folder / "MODEL_CARD.md").read_text()
    assert read_calibration(folder / "student.onnx") == Calibration(1.5, 0.8)
    assert verify_bundle(folder).faults == []
    (folder / "calibration.json").unlink()
    assert verify_bundle(folder).faults == ["calibration.json: missing"]


def test_a_new_folder_replaces_the_old_one(model: Path, student_path: Path, digits: Digits):
    (model.parent / "leftover").touch()
    ship(model.parent, student_path, digits, statement="**NOT PRIVATE**")
    assert "NOT PRIVATE" in (model.parent / "MODEL_CARD.md").read_text()
    assert not (model.parent / "leftover").exists()
    assert list(model.parent.parent.iterdir()) == [model.parent]


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path, student_path, digits: Digits):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match="no deployable folder"):
        ship(tmp_path, student_path, digits)
    assert (tmp_path / "thesis.txt").exists()


def before(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("fault", ["missing", "damaged", "key", "disk"])
def test_whatever_goes_wrong_the_earlier_folder_stays(
    model, student_path, digits: Digits, tmp_path, monkeypatch, fault
):
    kept = before(model.parent)
    source, key = student_path, None
    if fault == "missing":
        source = tmp_path / "nothing.onnx"
    elif fault == "damaged":
        source = tmp_path / "damaged.onnx"
        source.write_bytes(b"damaged")
    elif fault == "key":
        key = tmp_path / "key.pem"
        key.write_text("no key")
    else:
        monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(FedliteError) as caught:
        ship(model.parent, source, digits, statement="new", signing_key=key)
    assert "\n" not in str(caught.value)
    assert before(model.parent) == kept
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")
