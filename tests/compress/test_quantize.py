"""Quantized files: smaller, nearly as good, calibrated on public data alone."""

import numpy as np
import pytest

from fedlite.compress.measure import evaluate_onnx
from fedlite.compress.quantize import float_ops, quantize_onnx
from fedlite.compress.runtime import logits_of, open_session
from fedlite.data.types import ClientData, TestData
from fedlite.errors import FedliteError, UsageError

from .conftest import Digits


@pytest.mark.parametrize("mode", ["static", "dynamic", "weight_only"])
def test_int8_is_small_and_nearly_as_good(student_path, digits: Digits, tmp_path, mode, capfd):
    target = tmp_path / "quantized.onnx"
    quantize_onnx(student_path, target, mode, digits.public)
    assert target.stat().st_size <= 0.40 * student_path.stat().st_size
    full = evaluate_onnx(student_path, digits.test, 10).accuracy
    assert full > 0.9
    assert evaluate_onnx(target, digits.test, 10).accuracy > full - 0.02
    session = open_session(target)
    many = logits_of(session, digits.test.inputs[:5].numpy())
    one = logits_of(session, digits.test.inputs[:1].numpy())
    if mode != "dynamic":  # its ranges are those of the whole batch
        np.testing.assert_allclose(one, many[:1], atol=1e-4)
    assert list(tmp_path.iterdir()) == [target]
    assert capfd.readouterr() == ("", "")


def test_none_is_a_copy(student_path, tmp_path):
    quantize_onnx(student_path, tmp_path / "copy.onnx", "none")
    assert (tmp_path / "copy.onnx").read_bytes() == student_path.read_bytes()


def test_calibration_data_sets_the_ranges(student_path, digits: Digits, tmp_path):
    narrow = type(digits.public)(digits.public.inputs * 0, digits.public.labels)
    quantize_onnx(student_path, tmp_path / "narrow.onnx", "static", narrow)
    quantize_onnx(student_path, tmp_path / "fit.onnx", "static", digits.public)
    narrow_accuracy = evaluate_onnx(tmp_path / "narrow.onnx", digits.test, 10).accuracy
    assert narrow_accuracy < evaluate_onnx(tmp_path / "fit.onnx", digits.test, 10).accuracy


def test_equal_calibration_gives_equal_bytes(student_path, digits: Digits, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        quantize_onnx(student_path, tmp_path / name, "static", digits.public)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("kind", [ClientData, TestData, None])
def test_calibration_takes_public_data_alone(student_path, digits: Digits, tmp_path, kind):
    data = {
        ClientData: ClientData(0, digits.public.inputs, digits.public.labels),
        TestData: digits.test,
        None: None,
    }[kind]
    with pytest.raises(TypeError, match="PublicData"):
        quantize_onnx(student_path, tmp_path / "q.onnx", "static", data)
    assert list(tmp_path.iterdir()) == []


def test_float_ops_tell_what_the_runtime_left_in_float(student_path, digits: Digits, tmp_path):
    assert {"Conv", "Gemm"} <= set(float_ops(student_path))
    quantize_onnx(student_path, tmp_path / "static.onnx", "static", digits.public)
    assert float_ops(tmp_path / "static.onnx") == ["Tanh"]
    quantize_onnx(student_path, tmp_path / "weights.onnx", "weight_only")
    assert {"Conv", "Gemm"} <= set(float_ops(tmp_path / "weights.onnx"))


def test_bad_input_is_told_in_one_line(student_path, digits: Digits, tmp_path):
    target = tmp_path / "q.onnx"
    with pytest.raises(UsageError, match="must be one of static, dynamic"):
        quantize_onnx(student_path, target, "int3", digits.public)
    with pytest.raises(UsageError, match="no such file"):
        quantize_onnx(tmp_path / "none.onnx", target, "static", digits.public)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a model")
    with pytest.raises(FedliteError, match="damaged"):
        quantize_onnx(damaged, target, "static", digits.public)
