"""The page as a folder: what lies in it, what it says, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch

from fedlite.base.errors import FedliteError, UsageError
from fedlite.data.tokens import learn_tokenizer
from fedlite.data.types import ClientData
from fedlite.demo.facts import short_statement
from fedlite.demo.ort import FILES
from fedlite.demo.page import can_tokenize, write_demo
from fedlite.demo.samples import choose_samples
from tests.compress.conftest import Digits

from .conftest import facts_of


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """Files by the names of the runtime's; the browser's tests use the real ones."""
    folder = tmp_path / "ort"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(name)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    parts = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in parts}


def test_the_folder_holds_all_that_it_names(tmp_path, bundle, samples, digits: Digits, runtime):
    facts = facts_of(bundle, digits.task)
    write_demo(tmp_path / "page", bundle, samples, facts, runtime)
    files = files_of(tmp_path / "page")
    assert set(files) == {
        "index.html",
        "card.html",
        "card.css",
        "style.css",
        "icon.svg",
        "start.js",
        "app.js",
        "exact.js",
        "files.js",
        "image.js",
        "logmel.js",
        "model.js",
        "picture.js",
        "plots.js",
        "resample.js",
        "sound.js",
        "text.js",
        "tokenizer.js",
        "typical.js",
        "vector.js",
        "views.js",
        "wav.js",
        "demo.json",
        "student.onnx",
        "ort/LICENSE.txt",
        *(f"ort/{name}" for name in FILES),
    }
    assert files["student.onnx"] == (bundle / "student.onnx").read_bytes()
    content = json.loads(files["demo.json"])
    assert content["labels"] == list(digits.task.class_names)
    assert content["preprocessing"]["scale"] == 16
    assert content["kind"] == "picture"
    assert content["file"] == {"bytes": len(files["student.onnx"]), "precision": "int8"}
    code = b"".join(text for name, text in files.items() if name.endswith((".html", ".js", ".css")))
    assert b"https://" not in code


def test_the_card_is_shown_as_text(tmp_path, bundle, digits: Digits, runtime):
    write_demo(tmp_path / "page", bundle, [], facts_of(bundle, digits.task), runtime)
    card = (tmp_path / "page" / "card.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in card
    assert "<script>" not in card
    assert "<h2>Privacy</h2>" in card


def test_samples_are_raw_values_of_public_examples(samples, digits: Digits):
    assert [sample.label for sample in samples] == list(digits.task.class_names)
    for label, sample in enumerate(samples):
        first = int((digits.public.labels == label).nonzero()[0])
        raw = torch.tensor(sample.values)
        assert torch.equal(raw, raw.round())
        shown = digits.task.prepare(raw.reshape(1, 1, 8, 8))[0]
        torch.testing.assert_close(shown, digits.public.inputs[first])


def test_private_or_test_data_are_no_samples(digits: Digits):
    private = ClientData(0, digits.public.inputs, digits.public.labels)
    for data in (private, digits.test):
        with pytest.raises(TypeError):
            choose_samples(data, digits.task)


@pytest.mark.parametrize("fault", ["model", "labels", "runtime"])
def test_whatever_is_missing_the_earlier_page_stays(
    tmp_path, bundle, samples, digits: Digits, runtime, fault
):
    facts = facts_of(bundle, digits.task)
    page, damaged = tmp_path / "page", tmp_path / "damaged"
    write_demo(page, bundle, samples, facts, runtime)
    kept = files_of(page)
    damaged.mkdir()
    for name, content in files_of(bundle).items():
        (damaged / name).write_bytes(content)
    missing = {
        "model": damaged / "student.onnx",
        "labels": damaged / "labels.json",
        "runtime": runtime / "ort-wasm-simd-threaded.wasm",
    }
    missing[fault].unlink()
    with pytest.raises(FedliteError):
        write_demo(page, damaged, [], facts, runtime)
    assert files_of(page) == kept
    assert {path.name for path in tmp_path.iterdir()} == {"page", "damaged", "ort"}


def test_a_folder_of_something_else_is_not_replaced(tmp_path, bundle, digits: Digits, runtime):
    with pytest.raises(UsageError, match="no demo page"):
        write_demo(runtime, bundle, [], facts_of(bundle, digits.task), runtime)
    assert set(files_of(runtime)) == set(FILES)


def test_a_run_without_a_guarantee_says_so():
    privacy = {"private": False, "randomness": "secure", "protects": "one image", "units": []}
    assert short_statement(privacy).startswith("Not private: trained without")
    units = [{"unit": "client", "epsilon_max": 2.0, "delta": 1e-5, "trust": "central"}]
    leaky = {"private": True, "randomness": "deterministic", "protects": "", "units": units}
    assert short_statement(leaky).startswith("Not private: deterministic")
    held = short_statement({**leaky, "randomness": "secure"})
    assert "epsilon 2.00 at delta 1e-05 for all data of one client" in held


@pytest.mark.parametrize(
    ("kind", "can"), [("words", True), ("characters", True), ("pieces", False)]
)
@pytest.mark.parametrize("lowercase", [True, False])
def test_the_page_makes_words_and_characters_alone(kind: str, can: bool, lowercase: bool):
    made = json.loads(learn_tokenizer(["a b", "a c"] * 5, kind, 300, lowercase=lowercase))
    assert can_tokenize(made) == can
    assert not can_tokenize(made | {"normalizer": None})
    assert not can_tokenize(made | {"pre_tokenizer": {"type": "BertPreTokenizer"}})
