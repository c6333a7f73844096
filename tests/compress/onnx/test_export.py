"""Exported ONNX files against the models they came from, and what each format refuses."""

import copy
import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry, onnxscript_apis

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.exporting import export_file
from fedlite.compress.format import name_of, suffix_of
from fedlite.compress.onnx.export import export_onnx, verify_onnx
from fedlite.compress.onnx.translations import translations_read_once
from fedlite.compress.options import FORMATS, CompressOptions
from fedlite.models.build import build_model
from fedlite.serve.runtime import logits_of, open_runtime
from tests.compress.conftest import CNN, MLP, MOBILENET, Digits
from tests.compress.shrink.pruning import prune_channels
from tests.tasks import shaped


def test_the_file_answers_like_the_model(student, student_path, digits: Digits):
    assert verify_onnx(student, student_path, digits.test.inputs) < 1e-4


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_size_is_taken(student_path, digits: Digits, batch):
    runtime = open_runtime(student_path)
    found = runtime.run(digits.test.inputs[:batch].numpy())
    whole = logits_of(runtime, digits.test.inputs[:7].numpy(), batch_size=3)
    np.testing.assert_allclose(found, whole[:batch], atol=1e-5)


def test_input_and_output_are_as_documented(student_path):
    graph = onnx.load(student_path).graph
    assert [value.name for value in graph.input] == ["input"]
    assert [value.name for value in graph.output] == ["logits"]
    batch, *shape = graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert [size.dim_value for size in shape] == [1, 8, 8]


def test_the_file_holds_weights_and_graph_alone(student, student_path):
    weights = 4 * sum(p.numel() for p in student.parameters())
    assert student_path.stat().st_size < weights + 2500
    content = student_path.read_bytes()
    assert b"stack_trace" not in content
    assert b".py" not in content


def test_equal_models_give_equal_bytes_and_nothing_is_printed(
    student, student_path, digits: Digits, tmp_path, capfd
):
    again = tmp_path / "again.onnx"
    export_onnx(student, digits.task, again, opset=20)
    assert again.read_bytes() == student_path.read_bytes()
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == [again]


def test_translations_are_read_once_and_are_not_those_of_other_exports(
    student, student_path, digits: Digits, tmp_path, monkeypatch
):
    reads = []
    read_operators = onnxscript_apis.get_torchlib_ops
    monkeypatch.setattr(
        onnxscript_apis, "get_torchlib_ops", lambda: reads.append(1) or read_operators()
    )
    before = ONNXRegistry.from_torchlib
    export_onnx(student, digits.task, tmp_path / "again.onnx", opset=20)
    assert reads == [], "the student's own file was exported before"
    assert ONNXRegistry.from_torchlib == before
    with translations_read_once():
        remembered = ONNXRegistry.from_torchlib(opset_version=20)
    assert ONNXRegistry.from_torchlib(opset_version=20) is not remembered
    assert reads == [1]


@pytest.mark.parametrize(
    ("config", "shape"), [(MOBILENET, (1, 8, 8)), (CNN, (9, 64)), (MLP, (20,))]
)
def test_pruned_students_of_all_kinds_export(config, shape, tmp_path):
    task = shaped(shape, 3)
    model = prune_channels(build_model(config, task, seed=0), shape, 0.5, 4)
    export_onnx(model, task, tmp_path / "model.onnx", opset=20)
    inputs = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    assert verify_onnx(model, tmp_path / "model.onnx", inputs) < 1e-4
    assert model.training


def test_a_file_of_another_model_does_not_pass(student, student_path, digits: Digits):
    other = copy.deepcopy(student)
    with torch.no_grad():
        other.classifier[-1].bias[0] += 1
    with pytest.raises(FedliteError, match="differ"):
        verify_onnx(other, student_path, digits.test.inputs)


def test_missing_and_damaged_files_are_told_in_one_line(student, student_path, tmp_path):
    inputs = torch.zeros(1, 1, 8, 8)
    with pytest.raises(UsageError, match="no such file"):
        verify_onnx(student, tmp_path / "none.onnx", inputs)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(student_path.read_bytes()[:1000])
    with pytest.raises(FedliteError, match="damaged"):
        verify_onnx(student, damaged, inputs)


def test_a_model_that_cannot_be_exported_is_told_in_one_line(digits: Digits, tmp_path):
    class Undecided(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :10] if x.sum() > 0 else x.flatten(1)[:, 10:20]

    with pytest.raises(FedliteError, match="cannot be exported") as caught:
        export_onnx(Undecided(), digits.task, tmp_path / "model.onnx", opset=20)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_formats_are_those_of_the_configuration_and_known_by_suffix():
    assert FORMATS.names() == ("coreml", "executorch", "litert", "onnx")
    assert {suffix_of(name): name for name in FORMATS.names()} == {
        ".mlpackage": "coreml",
        ".pte": "executorch",
        ".tflite": "litert",
        ".onnx": "onnx",
    }
    for name in FORMATS.names():
        assert name_of(Path(f"student{suffix_of(name)}")) == name
    assert name_of(Path("student.pt")) is None
    with pytest.raises(UsageError, match=r"formats=tflite: must be one of .*litert, onnx$"):
        suffix_of("tflite")
    with pytest.raises(UsageError, match=r"^compress.formats=tests.compress.MINE: must be one of"):
        suffix_of("tests.compress.MINE")  # what ships is fedlite's own
    for name in set(FORMATS.names()) - {"onnx"}:
        assert importlib.util.find_spec(f"fedlite.compress.converters.{name}")


@pytest.mark.parametrize("quantization", ["none", "static", "dynamic", "fp16"])
def test_onnx_files_of_every_precision(student, digits: Digits, tmp_path, quantization):
    config = CompressOptions(quantization=quantization)
    path, plain = tmp_path / "student.onnx", tmp_path / "plain.onnx"
    export_file("onnx", student, digits.task, plain, config, None, quantized=False)
    float_ops = export_file(
        "onnx", student, digits.task, path, config, digits.public, quantized=True
    )
    smaller = quantization != "none"
    assert (path.stat().st_size < 0.7 * plain.stat().st_size) == smaller
    in_float = any(name.startswith("Conv") for name in float_ops)
    assert in_float == (quantization in ("dynamic", "fp16"))
    assert open_runtime(path).run(digits.test.inputs[:3].numpy()).shape == (3, 10)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["plain.onnx", "student.onnx"]


def test_static_files_are_calibrated_on_public_data_alone(student, digits: Digits, tmp_path):
    config, path = CompressOptions(quantization="static"), tmp_path / "student.onnx"
    for calibration in (None, digits.test):
        with pytest.raises(TypeError, match="PublicData"):
            export_file("onnx", student, digits.task, path, config, calibration, quantized=True)
    assert not path.exists()


@pytest.mark.parametrize(
    ("format", "options", "said"),
    [
        ("executorch", {"quantization": "fp16"}, "executorch files have static, qat, dynamic"),
        ("coreml", {"quantization": "static"}, r"weight_only \(8 or 4 bits\), fp16 or none"),
        ("executorch", {"quantization": "weight_only"}, "compress.quantization=weight_only"),
        ("litert", {"quantization": "static", "bits": 4}, "with compress.bits=4"),
    ],
)
def test_a_quantization_that_a_format_lacks_is_one_line(
    student, digits: Digits, tmp_path, format, options, said
):
    config, path = CompressOptions(**options), tmp_path / f"student{suffix_of(format)}"
    with pytest.raises(UsageError, match=said) as caught:
        export_file(format, student, digits.task, path, config, digits.public, quantized=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", ["litert", "executorch", "coreml"])
def test_a_converter_that_is_missing_is_one_line(student, digits: Digits, tmp_path, format):
    """This environment has none of them (``make test-formats`` builds those that do)."""
    path = tmp_path / f"student{suffix_of(format)}"
    path.write_text("an older file")
    for converters, said in [
        ({}, rf"pip install 'fedlite\[{format}\]'.*\+compress.converters.{format}=FILE"),
        ({format: sys.executable}, "is not installed there"),
        ({format: "/no/such/python"}, f"compress.converters.{format}=/no/such/python: no such"),
    ]:
        config = CompressOptions(converters=converters)
        with pytest.raises(FedliteError, match=said) as caught:
            export_file(format, student, digits.task, path, config, None, quantized=False)
        assert "\n" not in str(caught.value)
    assert path.read_text() == "an older file"


def test_a_model_that_was_changed_is_exported_anew_and_one_that_was_not_alike(tmp_path: Path):
    task = shaped((6,), num_classes=3)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    first, same, weights, layer = (tmp_path / f"{i}.onnx" for i in range(4))
    export_onnx(model, task, first, opset=20)
    export_onnx(model, task, same, opset=20)
    assert first.read_bytes() == same.read_bytes()
    with torch.no_grad():
        model[0].bias.add_(1.0)
    export_onnx(model, task, weights, opset=20)
    inputs = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    verify_onnx(model, weights, inputs)
    model[1] = nn.ReLU()
    export_onnx(model, task, layer, opset=20)
    verify_onnx(model, layer, inputs)
    copied = tmp_path / "copied.onnx"
    export_onnx(copy.deepcopy(model), task, copied, opset=20)
    assert copied.read_bytes() == layer.read_bytes()
