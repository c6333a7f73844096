"""LiteRT: converted in its own environment, run there and here."""

import numpy as np
import pytest

from fedlite.compress.check import compare
from fedlite.compress.runtime import logits_of, open_runtime


@pytest.mark.parametrize("name", ["cnn", "mobilenet"])
def test_fp32_is_the_model(make, name):
    found = make("litert", name, "none")
    assert found.comparison.snr_db > 100
    assert found.comparison.agreement == 1
    assert found.float_ops == []


@pytest.mark.parametrize(
    ("name", "quantization", "options", "least_db", "share"),
    [
        ("cnn", "static", {}, 30, 0.45),
        ("mobilenet", "static", {}, 25, 0.75),
        ("cnn", "static", {"symmetric": True, "per_channel": False}, 20, 0.45),
        ("cnn", "static", {"calibration": "percentile"}, 30, 0.45),
        ("cnn", "dynamic", {}, 40, 0.4),
        ("cnn", "weight_only", {}, 40, 0.4),
        ("cnn", "weight_only", {"bits": 4}, 20, 0.3),
        ("cnn", "fp16", {}, 60, 0.65),
    ],
)
def test_quantized_files_are_smaller_and_close(make, name, quantization, options, least_db, share):
    plain, found = make("litert", name, "none"), make("litert", name, quantization, **options)
    assert found.bytes < share * plain.bytes
    assert found.comparison.snr_db > least_db
    assert found.comparison.accuracy > found.comparison.reference_accuracy - 0.02


def test_operators_that_stay_in_float_are_listed(make):
    assert make("litert", "cnn", "static").float_ops == []
    assert "CONV_2D" in make("litert", "cnn", "weight_only").float_ops


def test_integer_inputs_and_outputs_are_scaled_by_the_runtime(make, students, digits):
    found = make("litert", "cnn", "static")
    runtime = open_runtime(found.path)  # this environment has the runtime, not the converter
    assert runtime.batch_size == 1
    assert runtime.input_shape == (1, 8, 8)
    logits = logits_of(runtime, digits.test.inputs[:5].numpy())
    assert logits.shape == (5, 10)
    assert logits.dtype == np.float32
    here = compare(found.path, students["cnn"], digits.public)
    assert here.snr_db == pytest.approx(found.comparison.snr_db, abs=3)


def test_names_of_classes_and_files_do_not_ship(make):
    content = make("litert", "cnn", "none").path.read_bytes()
    assert b"fedlite" not in content
    assert b"input" in content
    assert b"logits" in content
