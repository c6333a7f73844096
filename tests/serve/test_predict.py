"""Predicting with a deployable folder alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlite.base.calibration import probabilities_of
from fedlite.base.errors import FedliteError
from fedlite.serve.predict import choose_model, predict
from fedlite.serve.runtime import logits_of, open_runtime
from tests.compress.bundles import ship
from tests.compress.conftest import Digits


@pytest.fixture
def model(tmp_path: Path, student_path: Path, digits: Digits) -> Path:
    return ship(tmp_path / "deploy", student_path, digits)


@pytest.fixture
def expected(student_path: Path, digits: Digits) -> np.ndarray:
    """Probabilities of the test part, from the runtime directly."""
    logits = logits_of(open_runtime(student_path), digits.test.inputs.numpy()).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


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


def test_probabilities_are_those_of_the_temperature(
    model, expected, digits: Digits, student_path, tmp_path
):
    """One that makes the model less sure, and changes no answer."""
    np.savez(tmp_path / "some.npz", inputs=digits.raw.numpy())
    logits = logits_of(open_runtime(student_path), digits.test.inputs.numpy())
    path = model.with_name("calibration.json")
    path.write_text(json.dumps({"student.onnx": {"temperature": 2.5, "examples": 300}}))
    found = as_array(predict(model.parent, tmp_path / "some.npz"), digits)
    np.testing.assert_allclose(found, probabilities_of(logits, 2.5), atol=1e-6)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    path.write_text(json.dumps({"another.onnx": {"temperature": 2.5}}))
    uncalibrated = as_array(predict(model.parent, tmp_path / "some.npz"), digits)
    np.testing.assert_allclose(uncalibrated, expected, atol=1e-6)
    for damaged in ("{", "[]", '{"student.onnx": {}}', '{"student.onnx": {"temperature": -1}}'):
        path.write_text(damaged)
        with pytest.raises(FedliteError, match=r"calibration\.json: damaged"):
            predict(model.parent, tmp_path / "some.npz")


def test_a_table_is_read_by_the_names_of_its_columns(model, expected, digits: Digits, tmp_path):
    """Other columns, in another order, and text among them are no hindrance."""
    path = model.parent / "preprocessing.json"
    names = [f"pixel {place}" for place in range(64)]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"columns": names}))
    rows = digits.raw[:5].reshape(5, -1).int().flip(1).tolist()
    lines = [",".join(["id", *reversed(names), "answer"])]
    lines += [",".join(["7", *map(str, row), "yes"]) for row in rows]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    found = predict(model, tmp_path / "rows.csv")
    assert [p.source for p in found] == [f"rows.csv:{line}" for line in range(2, 7)]
    np.testing.assert_allclose(as_array(found, digits), expected[:5], atol=1e-6)


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


def one_digit(folder: Path, digits: Digits) -> Path:
    np.savez(folder / "one.npz", digits.raw[0].numpy())
    return folder / "one.npz"


def test_a_folder_stands_for_its_onnx_file(model, digits: Digits, tmp_path):
    file = one_digit(tmp_path, digits)
    assert predict(model.parent, file) == predict(model, file)


def test_a_folder_without_onnx_stands_for_the_first_of_its_manifest(
    model, digits: Digits, tmp_path
):
    file = one_digit(tmp_path, digits)
    expected = predict(model, file)
    manifest = model.with_name("manifest.json")
    manifest.write_text(manifest.read_text().replace("student.onnx", "other.onnx"))
    model.rename(model.with_name("other.onnx"))
    assert predict(model.parent, file) == expected
    manifest.write_text("[]")
    with pytest.raises(FedliteError, match="names no model"):
        predict(model.parent, file)


def test_a_file_that_no_runtime_serves_is_told(model, digits: Digits, tmp_path):
    other = model.rename(model.with_name("student.bin"))
    with pytest.raises(FedliteError, match=r"student\.bin"):
        predict(other, one_digit(tmp_path, digits))


def test_transparent_parts_of_an_image_are_black(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    hole = np.arange(64).reshape(8, 8) % 3 == 0
    image = Image.fromarray(pixels)
    image.putalpha(Image.fromarray(np.where(hole, 0, 255).astype(np.uint8)))
    image.save(tmp_path / "clear.png")
    Image.fromarray(np.where(hole, 0, pixels)).save(tmp_path / "black.png")
    (clear,), (black,) = (predict(model, tmp_path / f"{n}.png") for n in ("clear", "black"))
    assert clear.probabilities == black.probabilities


def test_sixteen_bits_of_grey_are_as_eight(model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "eight.png")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    (eight,), (sixteen,) = (predict(model, tmp_path / f"{n}.png") for n in ("eight", "sixteen"))
    assert eight.probabilities == sixteen.probabilities


def test_an_image_far_too_large_is_refused(model, tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(FedliteError, match="too large an image"):
        predict(model, tmp_path / "large.png")


def test_predicting_needs_no_torch(model, digits: Digits, tmp_path):
    code = (
        "import sys; from fedlite.cli.main import run;"
        " code = run(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    file = one_digit(tmp_path, digits)
    arguments = ["predict", f"model={model}", f"input={file}"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("one.npz[0]: digit ")


@pytest.mark.parametrize("name", ["../other/student.onnx", "/tmp/student.onnx"])
def test_a_manifest_cannot_point_out_of_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps([{"file": name}]))
    with pytest.raises(FedliteError, match="not a file of the folder"):
        choose_model(tmp_path)
