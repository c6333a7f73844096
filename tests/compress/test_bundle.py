"""The deployable folder, and predicting with it alone."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlite.compress.bundle import write_bundle
from fedlite.compress.predict import predict
from fedlite.compress.runtime import logits_of, open_session
from fedlite.errors import FedliteError, UsageError

from .conftest import Digits

REPORT = {
    "dataset": {"name": "digits", "public": 1000, "private": 0, "test": 797},
    "federation": {"num_clients": 20, "rounds": 20, "strategy": "fedavg"},
    "compression": {
        "ratio": 0.3,
        "sparsity": 0.0,
        "quantization": "static",
        "parameters_after": 9258,
    },
    "config": {"student": {"name": "cnn"}, "teacher": {"name": "wide_cnn"}},
}


def ship(directory: Path, model: Path, digits: Digits, statement: str = "Epsilon 8.") -> Path:
    write_bundle(
        directory,
        model,
        digits.task,
        REPORT,
        privacy_statement=statement,
        metrics_table="| model | accuracy |\n| - | - |\n| cnn | 0.95 |",
    )
    return directory / "student.onnx"


@pytest.fixture
def model(tmp_path: Path, student_path: Path, digits: Digits) -> Path:
    return ship(tmp_path / "deploy", student_path, digits)


@pytest.fixture
def expected(student_path: Path, digits: Digits) -> np.ndarray:
    """Probabilities of the test part, from the runtime directly."""
    logits = logits_of(open_session(student_path), digits.test.inputs.numpy()).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def test_the_folder_is_whole_and_its_sums_hold(model: Path, student_path: Path):
    folder = model.parent
    assert {path.name for path in folder.iterdir()} == {
        "student.onnx",
        "labels.json",
        "preprocessing.json",
        "MODEL_CARD.md",
        "SHA256SUMS",
    }
    assert model.read_bytes() == student_path.read_bytes()
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, check=True)
    model.write_bytes(model.read_bytes() + b"x")
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, check=False)
    assert done.returncode == 1


def test_the_card_says_what_how_private_and_how_good(model: Path):
    card = (model.parent / "MODEL_CARD.md").read_text()
    for words in ("Epsilon 8.", "| cnn | 0.95 |", "9,258 parameters", "one image of a handwritten"):
        assert words in card


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


def as_array(predictions, digits: Digits) -> np.ndarray:
    """Probabilities in the order of the classes."""
    names = digits.task.class_names
    return np.array([[dict(p.probabilities)[name] for name in names] for p in predictions])


def test_predicting_an_npz_equals_the_runtime(model, expected, digits: Digits, tmp_path):
    raw = digits.raw.numpy()
    last, images = np.moveaxis(raw, 1, -1), raw[:, 0]
    forms = {"first": raw, "last": last, "images": images, "flat": raw.reshape(len(raw), -1)}
    for name, array in forms.items():
        np.savez(tmp_path / f"{name}.npz", inputs=array, labels=np.arange(3))
        found = predict(model, tmp_path / f"{name}.npz")
        assert found[1].source == f"{name}.npz[1]"
        np.testing.assert_allclose(as_array(found, digits), expected, atol=1e-6)


def test_predictions_are_sorted_and_sum_to_one(model, expected, digits: Digits, tmp_path):
    np.savez(tmp_path / "one.npz", digits.raw[0].numpy())
    (found,) = predict(model, tmp_path / "one.npz")
    values = [value for _, value in found.probabilities]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)
    assert found.probabilities[0][0] == digits.task.class_names[expected[0].argmax()]


@pytest.mark.parametrize("header", [False, True])
def test_predicting_a_csv_equals_the_runtime(model, expected, digits: Digits, tmp_path, header):
    rows = digits.raw[:5].reshape(5, -1).int().tolist()
    lines = [",".join(map(str, row)) for row in rows]
    first = [",".join(f"pixel{i}" for i in range(64))] if header else []
    (tmp_path / "rows.csv").write_text("\n".join(first + lines) + "\n")
    found = predict(model, tmp_path / "rows.csv")
    assert [p.source for p in found] == [f"rows.csv:{i + 1 + header}" for i in range(5)]
    np.testing.assert_allclose(as_array(found, digits), expected[:5], atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_predicting_an_image_finds_the_class_of_the_raw_values(
    model, expected, digits: Digits, tmp_path, mode
):
    pixels = (digits.raw[0, 0].numpy() * 255 / 16).round().astype(np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "digit.png")
    found = predict(model, tmp_path / "digit.png")
    np.testing.assert_allclose(as_array(found, digits), expected[:1], atol=0.01)
    image.resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    (large,) = predict(model, tmp_path / "large.png")
    assert large.probabilities[0][0] == found[0].probabilities[0][0]


def bad_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that cannot be predicted on, and words that the error must hold."""
    cases = {
        "missing.png": (None, "no such file"),
        "notes.txt": (b"hello", "unknown kind .txt"),
        "broken.png": (b"\x89PNG\r\n\x1a\nrest", "damaged"),
        "broken.npz": (b"PK\x03\x04rest", "damaged"),
        "empty.csv": (b"", "no example"),
        "short.csv": (b"1,2,3\n", "expected 64"),
        "words.csv": (b",".join([b"1"] * 64) + b"\na,b\n", "line 2"),
        "nan.csv": (b",".join([b"1"] * 64) + b"\n" + b",".join([b"nan"] * 64), "line 2"),
    }
    for name, (content, _) in cases.items():
        if content is not None:
            (folder / name).write_bytes(content)
    np.savez(folder / "shape.npz", np.zeros((3, 7, 7)))
    np.savez(folder / "nan.npz", np.full((1, 8, 8), np.nan))
    np.savez(folder / "object.npz", np.array([{}, None], dtype=object))
    found = {name: (folder / name, words) for name, (_, words) in cases.items()}
    found["shape.npz"] = folder / "shape.npz", r"expected \(1, 8, 8\)"
    found["nan.npz"] = folder / "nan.npz", "finite"
    found["object.npz"] = folder / "object.npz", "not an npz file of numbers"
    return found


def test_bad_inputs_are_told_in_one_line(model, tmp_path):
    for path, words in bad_inputs(tmp_path).values():
        with pytest.raises(FedliteError, match=words) as caught:
            predict(model, path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("student.onnx", None, "no such file"),
        ("student.onnx", b"damaged", "damaged"),
        ("labels.json", None, "belongs beside the model"),
        ("labels.json", b'["one"]', "10 class names"),
        ("preprocessing.json", None, "belongs beside the model"),
        ("preprocessing.json", b"{", "not JSON"),
        ("preprocessing.json", b"{}", "needs input_shape"),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(
    model, digits: Digits, tmp_path, name, content, words
):
    np.savez(tmp_path / "one.npz", digits.raw[0].numpy())
    (model.parent / name).unlink()
    if content is not None:
        (model.parent / name).write_bytes(content)
    with pytest.raises(FedliteError, match=words) as caught:
        predict(model, tmp_path / "one.npz")
    assert name in str(caught.value)


def test_preprocessing_is_that_of_the_task(model, digits: Digits):
    found = json.loads((model.parent / "preprocessing.json").read_text())
    raw = digits.raw.numpy()
    normalised = (raw / found["scale"] - found["mean"][0]) / found["std"][0]
    np.testing.assert_allclose(normalised, digits.test.inputs.numpy(), atol=1e-5)
