"""LiteRT: converted in its own environment, run there and here."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn

from fedlite.compress.compare import compare
from fedlite.compress.exporting import export_file
from fedlite.compress.options import CompressOptions
from fedlite.serve.runtime import logits_of, open_runtime

from .conftest import python_of


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
        (
            "cnn",
            "static",
            {"symmetric": True, "per_channel": False, "calibration": "percentile"},
            20,
            0.45,
        ),
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


@pytest.mark.parametrize(
    ("name", "stays_in_float"),
    [
        ("shuffle", []),
        ("transformer", ["SOFTMAX", "RSQRT"]),
        ("scattering", ["STABLEHLO_REDUCE_WINDOW", "SQRT", "RSQRT"]),
    ],
)
def test_static_files_of_every_kind_of_student_are_close(make, name, stays_in_float):
    found = make("litert", name, "static")
    assert found.comparison.snr_db > 25
    assert set(stays_in_float) <= set(found.float_ops)
    assert not {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"} & set(found.float_ops)


def test_operators_that_stay_in_float_are_listed(make):
    assert make("litert", "cnn", "static").float_ops == []
    assert "CONV_2D" in make("litert", "cnn", "weight_only").float_ops


def test_integer_files_take_and_answer_float32_here_too(make, students, digits):
    found = make("litert", "cnn", "static")
    runtime = open_runtime(found.path)  # this environment has the runtime, not the converter
    assert runtime.value_type == "float32"
    assert runtime.input_shape == (1, 8, 8)
    logits = logits_of(runtime, digits.test.inputs[:5].numpy())
    assert logits.shape == (5, 10)
    assert logits.dtype == np.float32
    here = compare(found.path, students["cnn"].model, digits.public)
    assert here.snr_db == pytest.approx(found.comparison.snr_db, abs=3)


@pytest.mark.parametrize("quantization", ["none", "static", "dynamic"])
def test_the_batch_of_a_plain_network_can_be_changed(make, digits, quantization):
    inputs = digits.test.inputs[:5].numpy()
    path = make("litert", "cnn", quantization).path
    interpreter = Interpreter(str(path), num_threads=1)
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["shape"][0] == 1
    assert given["shape_signature"][0] == -1

    def logits(batch):
        interpreter.resize_tensor_input(given["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    one_by_one = np.concatenate([logits(one[None]) for one in inputs])
    np.testing.assert_allclose(logits(inputs), one_by_one, rtol=1e-4, atol=1e-4)
    runtime = open_runtime(path)
    assert runtime.batch_size is None
    for size in (5, 2):
        np.testing.assert_allclose(
            logits_of(runtime, inputs, batch_size=size), one_by_one, rtol=1e-4, atol=1e-4
        )


def test_a_file_whose_batch_cannot_be_changed_says_one(make):
    path = make("litert", "transformer", "static").path
    assert Interpreter(str(path)).get_input_details()[0]["shape_signature"][0] == 1


class Scaled(nn.Module):
    """Its largest value, a number without dimensions, scales the whole input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        largest = x.flatten().max().reshape(()).sigmoid()
        return self.head((x * largest.reshape(1, 1, 1, 1)).flatten(1))


def test_a_network_that_mixes_a_batch_converts_and_keeps_its_batch(digits, tmp_path):
    path, model = tmp_path / "scaled.tflite", Scaled().eval()
    config = CompressOptions(converters={"litert": python_of("litert")})
    export_file("litert", model, digits.task, path, config, None, quantized=False)
    runtime = open_runtime(path)
    assert runtime.batch_size == 1
    one = digits.test.inputs[:1]
    np.testing.assert_allclose(runtime.run(one.numpy()), model(one).detach(), atol=1e-4)


def test_names_of_classes_and_files_do_not_ship(make):
    content = make("litert", "cnn", "none").path.read_bytes()
    assert b"fedlite" not in content
    assert b"input" in content
    assert b"logits" in content
