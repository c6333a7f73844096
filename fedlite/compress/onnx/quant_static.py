"""Static int8 of an ONNX file, with the ranges of activations from public data."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from fedlite.compress.onnx.files import quiet, read_onnx
from fedlite.compress.onnx.integer_graph import (
    fill_depthwise,
    layers_in_float,
    operators_to_quantize,
    pool_globally,
)
from fedlite.compress.options import CompressOptions
from fedlite.data.types import PublicData

BATCH = 64  # calibration examples whose inner values are held at once


def quantize_activations(
    model: onnx.ModelProto, calibration: PublicData, config: CompressOptions
) -> onnx.ModelProto:
    """``model`` in QDQ form: weights int8, activations uint8 (ONNX Runtime's quantizer).

    This pair of types is the one that x86 kernels are fast with. Weights are symmetric;
    activations as ``config.symmetric`` says. Their ranges are the extremes over the calibration
    examples, or the middle ``config.percentile`` percent of the values. A range that starts at
    zero contains the ReLU before it; a symmetric one does not, and each ReLU costs time again.

    Args:
        model: fp32; it is changed.
        calibration: every example is used.
        config: ``symmetric``, ``per_channel``, ``calibration`` and ``percentile``.
    """
    pool_globally(model)
    fill_depthwise(model.graph)
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
            nodes_to_exclude=layers_in_float(model),
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
        quantized = read_onnx(target)
    _drop_zero_points(quantized.graph)
    return quantized


def _drop_zero_points(graph: onnx.GraphProto) -> None:
    """Leave out the zero points of convolutions' weights, in place: all are zero, the default.

    The runtime then holds one zero for all channels, and reads that much less at each call. (Linear
    layers need theirs: without, it would not compute them in integers.)
    """
    constants = {tensor.name for tensor in graph.initializer}
    weights = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    for node in graph.node:
        constant = node.op_type == "DequantizeLinear" and node.input[0] in constants
        if constant and node.output[0] in weights:
            del node.input[2]


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
