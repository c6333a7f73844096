"""Static int8 of an ONNX file: which operators, and the ranges of their inputs from public data."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from fedlite.compress.onnx_files import quiet, read_onnx
from fedlite.config import CompressConfig
from fedlite.data.types import PublicData

LAYERS = ("Conv", "MatMul", "Gemm", "Clip", "Relu")  # activations vanish into the layer before
# With these too, a network of layers and activations stays in integers from end to end.
BETWEEN_LAYERS = (
    *("Add", "Mul", "Sigmoid", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Concat", "Split", "Slice", "Pad"),
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"),
)
# Computed in float32 in any case; next to them, integers would only be converted to and fro.
FLOAT_ONLY = {"InstanceNormalization", "LayerNormalization", "GroupNormalization", "Softmax"}
FLOAT_ONLY |= {"BatchNormalization", "RMSNormalization", "Gelu", "Erf", "GRU", "LSTM", "RNN"}
BATCH = 64  # calibration examples whose inner values are held at once


def operators_to_quantize(model: onnx.ModelProto) -> tuple[str, ...]:
    """The operator types whose integer form makes this model fastest on the CPU.

    All that ONNX Runtime has integer kernels for, where no operator needs float32; in networks with
    norms or softmax the layers alone.
    """
    found = {node.op_type for node in model.graph.node}
    return LAYERS if found & FLOAT_ONLY else LAYERS + BETWEEN_LAYERS


def quantize_activations(
    model: onnx.ModelProto, calibration: PublicData, config: CompressConfig
) -> onnx.ModelProto:
    """``model`` in QDQ form: weights int8, activations uint8 (ONNX Runtime's quantizer).

    This pair of types is the one that x86 kernels are fast with. Weights are symmetric;
    activations as ``config.symmetric`` says. Their ranges are the extremes over the calibration
    examples, or the middle ``config.percentile`` percent of the values.

    Args:
        model: fp32; it is changed.
        calibration: every example is used.
        config: ``symmetric``, ``per_channel``, ``calibration`` and ``percentile``.
    """
    _pool_globally(model)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    percentile = config.calibration == "percentile"
    with tempfile.TemporaryDirectory() as directory, quiet():
        target = Path(directory) / "quantized.onnx"
        quantize_static(
            model,
            target,
            _Batches(model.graph.input[0].name, calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=config.per_channel,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(operators_to_quantize(model)),
            nodes_to_exclude=_products_of_activations(model.graph),
            calibrate_method=(
                CalibrationMethod.Percentile if percentile else CalibrationMethod.MinMax
            ),
            extra_options={
                "ActivationSymmetric": config.symmetric,
                "WeightSymmetric": True,
                "CalibTensorRangeSymmetric": False,  # ActivationSymmetric widens the range itself
                "CalibPercentile": config.percentile,
                "CalibStridedMinMax": 1,  # batches at once, so that memory stays bounded
                "QuantizeBias": False,  # the runtime does it at load
            },
        )
        return read_onnx(target)


def _products_of_activations(graph: onnx.GraphProto) -> list[str]:
    """Names of the matrix products without a constant (attention); in int8 they lose accuracy."""
    constants = {tensor.name for tensor in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and not constants.intersection(node.input)
    ]


def _pool_globally(model: onnx.ModelProto) -> None:
    """Write means over all positions as GlobalAveragePool, in place: it has an integer kernel."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inferred = shape_inference.infer_shapes(model).graph.value_info
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in inferred}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        rank = ranks.get(node.input[0], 0) if node.input else 0
        if node.op_type != "ReduceMean" or rank < 3 or not constants.keys() & set(node.input[1:]):
            continue
        axes = {int(axis) % rank for axis in numpy_helper.to_array(constants[node.input[1]])}
        if axes != set(range(2, rank)):
            continue
        source, mean = node.input[0], node.output[0]
        flat = any(a.name == "keepdims" and a.i == 0 for a in node.attribute)
        pooled = f"{mean}_pooled" if flat else mean
        nodes[-1] = helper.make_node("GlobalAveragePool", [source], [pooled])
        if flat:
            nodes.append(helper.make_node("Flatten", [pooled], [mean]))
    del graph.node[:]
    graph.node.extend(nodes)


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # untyped library class
    """Calibration inputs in batches, counted and given in ranges as ONNX Runtime asks for them."""

    def __init__(self, name: str, data: PublicData) -> None:
        self._name, self._batches = name, torch.split(data.inputs, BATCH)
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._next = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._next, None)
        return None if batch is None else {self._name: batch.numpy()}
