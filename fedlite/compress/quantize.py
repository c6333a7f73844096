"""Quantizing an exported file to int8: static, dynamic or weights only."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from fedlite.compress.onnx_files import quiet, read_onnx, strip, write_onnx
from fedlite.data.types import PublicData
from fedlite.distill.public import require_public
from fedlite.errors import FedliteError, UsageError

QUANTIZED_OPS = ("Conv", "MatMul", "Gemm")
INTEGER_OPS = {"ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
WITHOUT_ARITHMETIC = {"DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Shape", "Identity"}
WITHOUT_ARITHMETIC |= {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"}
MODES = ("static", "dynamic", "weight_only", "none")


def quantize_onnx(
    source: Path, target: Path, mode: str, calibration: PublicData | None = None
) -> None:
    """Write ``source`` (fp32) to ``target``, quantized, atomically; all modes read fp32 inputs.

    - ``static``: int8 weights per output channel and uint8 activations whose ranges come from
      ``calibration`` (QDQ form; ONNX Runtime). Faster than fp32 where layers are large; in very
      small networks the fixed cost of each operator rules, and fp32 is as fast or faster.
    - ``dynamic``: activation ranges are found anew at each call. Slower than fp32 for
      convolutions; good for large linear layers.
    - ``weight_only``: int8 weights per output channel, widened back at run time: the smaller
      file, float arithmetic, never faster than fp32.
    - ``none``: a copy.

    Raises:
        TypeError: ``static`` without public data: calibration is post-processing of the private
            model and never sees private data.
        UsageError: an unknown mode, or no such file.
        FedliteError: the runtime cannot quantize this model.
    """
    if mode not in MODES:
        raise UsageError(f"compress.quantization={mode}: must be one of {', '.join(MODES)}")
    if mode == "static" or calibration is not None:
        require_public(calibration)
    model = read_onnx(source)
    temporary = target.with_name(f".{target.name}.quantizing")
    try:
        match mode:
            case "none":
                shutil.copyfile(source, temporary)
                temporary.replace(target)
                return
            case "static":
                assert calibration is not None
                with quiet():
                    quantize_static(
                        model,
                        temporary,
                        _Batches(model.graph.input[0].name, calibration),
                        quant_format=QuantFormat.QDQ,
                        per_channel=True,
                        activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8,
                        op_types_to_quantize=list(QUANTIZED_OPS),
                        extra_options={"QuantizeBias": False},  # the runtime does it at load
                    )
                model = read_onnx(temporary)
            case "dynamic":
                with quiet():  # unsigned weights: ConvInteger is twice as fast as with signed ones
                    quantize_dynamic(
                        model, temporary, per_channel=True, weight_type=QuantType.QUInt8
                    )
                model = read_onnx(temporary)
            case "weight_only":
                _quantize_weights(model)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise FedliteError(f"{source}: {mode} quantization failed: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)
    strip(model)
    write_onnx(model, target)


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # untyped library class
    """Calibration inputs in batches of 64, as ONNX Runtime wants them."""

    def __init__(self, name: str, data: PublicData) -> None:
        self._batches = iter([{name: batch.numpy()} for batch in torch.split(data.inputs, 64)])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)


def _quantize_weights(model: onnx.ModelProto) -> None:
    """Store weights as int8 with one scale per output channel, symmetric, in place."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    widened: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type not in QUANTIZED_OPS or (name := node.input[1]) not in constants:
            continue
        if name not in widened:
            weight = numpy_helper.to_array(constants[name])
            axis = _output_axis(node, weight.ndim)
            others = tuple(i for i in range(weight.ndim) if i != axis)
            scale = np.abs(weight).max(axis=others, keepdims=True) / 127
            scale = np.where(scale == 0, 1, scale).astype(np.float32)
            integers = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
            constants[name].CopyFrom(numpy_helper.from_array(integers, name))
            graph.initializer.append(numpy_helper.from_array(scale.ravel(), f"{name}_scale"))
            widened[name] = helper.make_node(
                "DequantizeLinear", [name, f"{name}_scale"], [f"{name}_float"], axis=axis
            )
        node.input[1] = f"{name}_float"
    nodes = [*widened.values(), *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _output_axis(node: onnx.NodeProto, dims: int) -> int:
    """The axis of a weight that counts output channels."""
    if node.op_type == "Conv":
        return 0
    transposed = any(a.name == "transB" and a.i == 1 for a in node.attribute)
    return 0 if transposed else dims - 1


def float_ops(path: Path) -> list[str]:
    """Types of the operators that ONNX Runtime computes in float32 for this file, sorted.

    Read off the graph that the runtime itself makes of the file, where it fuses operators between
    quantize and dequantize nodes into integer ones. Operators that only quantize or rearrange
    values do not count.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as directory:
        optimized = Path(directory) / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        graph = read_onnx(optimized).graph
    integers: set[str] = set()
    found = set()
    for node in graph.node:
        name = node.op_type.removeprefix("Fused")
        reads_integers = bool(integers.intersection(node.input[:1]))
        if name.startswith("Q") or (reads_integers and name != "DequantizeLinear"):
            integers.update(node.output)  # QuantizeLinear, QLinearConv, QGemm, MaxPool of integers
        elif name not in WITHOUT_ARITHMETIC and name not in INTEGER_OPS:
            found.add(name)
    return sorted(found)
