"""Weights in fewer bits: rounding, blocks, and constants stored as float16."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fedlite.compress.onnx.files import strip
from fedlite.compress.onnx.weights import (
    halve_floats,
    narrow_weights,
    quantize_weight,
    share_constants,
)

RANDOM = np.random.default_rng(0)


def model_of(nodes, constants, inputs, opset=20) -> onnx.ModelProto:
    """A model from ``inputs`` (name to shape or, for integers, a tuple with the type) to ``y``."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run(model: onnx.ModelProto, *inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("shape", "axis"), [((6, 64), 0), ((64, 6), 1), ((5, 4, 3, 3), 0)])
def test_rounding_errs_by_half_a_step_at_most(bits, shape, axis):
    weight = normal(*shape)
    found = quantize_weight(weight, axis, bits)
    assert np.abs(found.integers).max() <= 2 ** (bits - 1) - 1
    restored = (found.integers * found.scales).reshape(shape)
    if bits == 8:
        assert np.all(np.abs(restored - weight) <= found.scales / 2 + 1e-6)
    error = np.square(restored - weight).sum() / np.square(weight).sum()
    assert error < {8: 1e-4, 4: 0.01}[bits]


def test_four_bits_share_scales_in_blocks_of_one_channel():
    assert quantize_weight(normal(6, 64), 0, 4).scales.shape == (6, 2, 1)
    assert quantize_weight(normal(64, 6), 1, 4).scales.shape == (2, 1, 6)
    assert quantize_weight(normal(6, 37), 0, 4).scales.shape == (6, 1, 1)  # a prime: one block
    assert quantize_weight(normal(2, 6, 37), 1, 4).scales.shape == (1, 6, 1)


def test_shrinking_the_range_lowers_the_error_of_four_bits():
    weight = normal(8, 512)
    found = quantize_weight(weight, 0, 4)
    blocks = weight.reshape(8, 16, 32)
    whole = np.abs(blocks).max(axis=2, keepdims=True) / 7
    plain = np.clip(np.rint(blocks / whole), -7, 7) * whole
    shrunk = found.integers * found.scales
    assert np.square(shrunk - blocks).sum() < 0.95 * np.square(plain - blocks).sum()


def test_weights_of_zeros_stay_zeros():
    found = quantize_weight(np.zeros((4, 32), np.float32), 0, 8)
    assert not found.integers.any()
    assert np.isfinite(found.scales).all()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", ["Conv", "MatMul", "Gemm", "Gather", "GRU"])
def test_every_kind_of_weight_is_stored_and_widened(kind, bits):
    floating, whole = TensorProto.FLOAT, TensorProto.INT64
    gru = {"w": normal(1, 48, 32), "r": normal(1, 48, 16)}
    nodes, constants, inputs, example = {
        "Conv": (
            [helper.make_node("Conv", ["x", "w"], ["y"])],
            {"w": normal(8, 32, 3, 3)},
            [("x", floating, (1, 32, 8, 8))],
            normal(1, 32, 8, 8),
        ),
        "MatMul": (
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            {"w": normal(64, 24)},
            [("x", floating, (2, 5, 64))],
            normal(2, 5, 64),
        ),
        "Gemm": (
            [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
            {"w": normal(24, 64)},
            [("x", floating, (2, 64))],
            normal(2, 64),
        ),
        "Gather": (
            [helper.make_node("Gather", ["w", "x"], ["y"])],
            {"w": normal(100, 32)},
            [("x", whole, (2, 5))],
            np.arange(10).reshape(2, 5) * 7,
        ),
        "GRU": (
            [helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=16)],
            gru,
            [("x", floating, (4, 2, 32))],
            normal(4, 2, 32),
        ),
    }[kind]
    model = model_of(nodes, constants, inputs)
    wanted = run(model, example)
    narrow = narrow_weights(model, bits)
    stored = {t.data_type for t in narrow.graph.initializer if len(t.dims) > 1}
    assert {8: TensorProto.INT8, 4: TensorProto.INT4}[bits] in stored
    found = run(narrow, example)
    snr = 10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum())
    assert snr > {8: 32, 4: 10}[bits]


def test_a_table_has_a_scale_for_each_row():
    model = model_of(
        [helper.make_node("Gather", ["w", "x"], ["y"])],
        {"w": normal(20, 16) * np.logspace(-3, 3, 20, dtype=np.float32)[:, None]},
        [("x", TensorProto.INT64, (20,))],
    )
    wanted = run(model, np.arange(20))
    found = run(narrow_weights(model, 8), np.arange(20))
    assert np.all(np.abs(found - wanted).max(axis=1) <= np.abs(wanted).max(axis=1) / 200)


def test_a_weight_of_two_layers_is_stored_once():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    model = model_of(nodes, {"w": normal(32, 32)}, [("x", TensorProto.FLOAT, (1, 32))])
    narrow_weights(model, 8)
    assert sum(t.data_type == TensorProto.INT8 for t in model.graph.initializer) == 1


def test_float16_keeps_what_it_cannot_hold():
    values = {
        "fits": np.array([0.5, -3.25, 0.0], np.float32),
        "huge": np.array([1e6, 1.0, 2.0], np.float32),
        "tiny": np.array([1e-12, 1.0, 2.0], np.float32),
        "matrix": normal(3, 3),
    }
    nodes = [
        helper.make_node("Add", ["x", "fits"], ["a"]),
        helper.make_node("Add", ["a", "huge"], ["b"]),
        helper.make_node("Mul", ["b", "tiny"], ["c"]),
        helper.make_node("MatMul", ["c", "matrix"], ["y"]),
    ]
    model = model_of(nodes, values, [("x", TensorProto.FLOAT, (2, 3))])
    example = normal(2, 3)
    wanted = run(model, example)
    halve_floats(model)
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert kinds["huge"] == kinds["tiny"] == TensorProto.FLOAT
    assert "fits" not in kinds
    assert "matrix" not in kinds
    np.testing.assert_allclose(run(model, example), wanted, rtol=2e-3)


def test_equal_constants_are_kept_once():
    same = normal(16)
    nodes = [
        helper.make_node("Add", ["x", "a"], ["h"]),
        helper.make_node("Mul", ["h", "b"], ["i"]),
        helper.make_node("Add", ["i", "c"], ["y"]),
    ]
    constants = {"a": same, "b": same.copy(), "c": normal(16)}
    model = model_of(nodes, constants, [("x", TensorProto.FLOAT, (1, 16))])
    example = normal(1, 16)
    wanted = run(model, example)
    share_constants(model)
    assert len(model.graph.initializer) == 2
    np.testing.assert_array_equal(run(model, example), wanted)


def test_stripping_drops_attributes_that_say_the_default():
    convolution = helper.make_node(
        "Conv",
        ["x", "w"],
        ["h"],
        auto_pad="NOTSET",
        dilations=[1, 1],
        group=1,
        pads=[1, 1, 1, 1],
        strides=[1, 1],
    )
    linear = helper.make_node("Gemm", ["v", "u"], ["y"], alpha=1.0, beta=1.0, transB=1)
    model = model_of(
        [convolution, helper.make_node("Flatten", ["h"], ["v"]), linear],
        {"w": normal(4, 2, 3, 3), "u": normal(3, 100)},
        [("x", TensorProto.FLOAT, (1, 2, 5, 5))],
    )
    example = normal(1, 2, 5, 5)
    wanted = run(model, example)
    strip(model)
    kept = [[a.name for a in node.attribute] for node in model.graph.node]
    assert kept == [["pads"], [], ["transB"]]
    np.testing.assert_array_equal(run(model, example), wanted)
