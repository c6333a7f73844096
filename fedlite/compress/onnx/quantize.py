"""Quantizing an exported file: int8 static or dynamic, or weights alone in 8, 4 or 16 bits."""

import re
import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from fedlite.base.errors import FedliteError
from fedlite.compress.onnx.files import quiet, read_onnx, strip, write_onnx
from fedlite.compress.onnx.quant_static import quantize_activations
from fedlite.compress.onnx.weights import (
    halve_floats,
    narrow_weights,
    share_constants,
    unshare_weights,
)
from fedlite.compress.options import CompressOptions, check_quantization
from fedlite.data.types import PublicData
from fedlite.distill.public import require_public

DYNAMIC_OPS = ("MatMul", "LSTM")  # Gemm is written as MatMul and Add
INTEGER_OPS = {"ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"}
INTEGER_OPS |= {"DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
WITHOUT_ARITHMETIC = {"DequantizeLinear", "DynamicQuantizeLinear", "Cast", "Identity", "Gather"}
WITHOUT_ARITHMETIC |= {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Expand"}
WITHOUT_ARITHMETIC |= {"Concat", "Split", "Slice", "ReorderInput", "ReorderOutput"}
INTEGER_FORM = re.compile(r"Q([A-Z]|uantize)")  # not QuickGelu, the runtime's SiLU
# What the runtime adds to the name of an operator that it computes in a form of its own.
FORM = re.compile(r"^(Fused|QLinear|Q(?=[A-Z])|DynamicQuantize)|Integer(ToFloat)?$")


def precision_of(config: CompressOptions) -> str:
    """What the weights of a quantized file are: fp32, fp16, int8, int8 weights or int4 weights.

    ``int8`` alone means that arithmetic is in integers too.

    Raises:
        UsageError: a mode or a number of bits that there is not.
    """
    check_quantization(config)
    match config.quantization:
        case "none":
            return "fp32"
        case "fp16":
            return "fp16"
        case "weight_only":
            return f"int{config.bits} weights"
        case _:
            return "int8"


def quantize_onnx(
    source: Path, target: Path, config: CompressOptions, calibration: PublicData | None
) -> None:
    """Write ``source`` (fp32) to ``target``, quantized as ``config.quantization`` says, atomically.

    Every file takes and answers float32.

    - ``static`` (and ``qat``, whose weights were trained for it): int8 weights, and uint8
      activations whose ranges come from ``calibration``. Networks without norms at run time stay
      in integers, but for ends that are faster in float. Faster than fp32 where layers are large;
      in very small networks the fixed cost of each operator rules, and fp32 is as fast or faster.
    - ``dynamic``: the same for linear and LSTM layers, but activation ranges are found anew at each
      call; all other weights as in ``weight_only``.
    - ``weight_only``: weights of ``config.bits`` bits, widened when the file is loaded: the smaller
      file, with the arithmetic, speed and memory of fp32. Four bits need, and make, opset 21.
    - ``fp16``: all numbers stored as float16, widened when the file is loaded. Float16
      arithmetic has no fast kernels on the CPU.
    - ``none``: a copy.

    The integer modes quantize embedding tables too, store scales, biases and norms as float16,
    and equal constants once. ``config.per_channel=False`` gives every weight one scale.

    Raises:
        TypeError: ``static`` without public data: calibration is post-processing of the private
            model and never sees private data.
        UsageError: an unknown mode, bits that it does not have, or no such file.
        FedliteError: the runtime cannot quantize this model.
    """
    check_quantization(config)
    static = config.quantization in ("static", "qat")
    if static or calibration is not None:
        require_public(calibration)
    model = read_onnx(source)
    try:
        model = _quantized(model, config, calibration)
    except Exception as error:  # the quantizer's and converter's errors share no base class
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise FedliteError(
            f"{source}: compress.quantization={config.quantization} failed: {reason}"
        ) from error
    write_onnx(model, target)


def _quantized(
    model: onnx.ModelProto, config: CompressOptions, calibration: PublicData | None
) -> onnx.ModelProto:
    match config.quantization:
        case "none":
            return model
        case "fp16":
            halve_floats(model)
        case "weight_only":
            model = narrow_weights(model, config.bits, config.per_channel)
            halve_floats(model)
        case "dynamic":
            model = narrow_weights(_dynamic(model, config.per_channel), 8, config.per_channel)
            halve_floats(model)
        case _:
            assert calibration is not None
            model = quantize_activations(model, calibration, config)
            model = narrow_weights(model, 8, config.per_channel)  # embeddings, recurrent layers
            halve_floats(model)
    share_constants(model)
    strip(model)
    return model


def _dynamic(model: onnx.ModelProto, per_channel: bool) -> onnx.ModelProto:
    """``model`` with linear and LSTM layers in int8 (ONNX Runtime's quantizer)."""
    unshare_weights(model)  # the quantizer spoils what others read of a tied weight
    with tempfile.TemporaryDirectory() as directory, quiet():
        path = Path(directory) / "quantized.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=list(DYNAMIC_OPS),
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
        )
        return read_onnx(path)


def float_ops(path: Path) -> list[str]:
    """Types of the operators that ONNX Runtime computes in float32 for this file, sorted.

    Where others of the same type are computed in integers it says so: ``Conv (1 of 23)``. Read off
    the graph that the runtime itself makes of the file, where it fuses operators between quantize
    and dequantize nodes into integer ones. Operators that only quantize or rearrange values, or
    compute shapes, do not count.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as directory:
        optimized = Path(directory) / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        graph = read_onnx(optimized).graph
    integers: set[str] = set()  # of activations
    shapes = {t.name for t in graph.initializer if t.data_type == TensorProto.INT64}
    found: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for node in graph.node:
        name = node.op_type.removeprefix("Fused")
        reads_integers = bool(integers.intersection(node.input[:1]))
        if name in ("Shape", "Size") or (node.input and shapes.issuperset(node.input)):
            shapes.update(node.output)
            continue
        every[FORM.sub("", name)] += 1
        if INTEGER_FORM.match(name) or (reads_integers and name != "DequantizeLinear"):
            integers.update(node.output)  # QuantizeLinear, QLinearConv, QGemm, MaxPool of integers
        elif name not in WITHOUT_ARITHMETIC and name not in INTEGER_OPS:
            found[name] += 1
    return sorted(
        name if count == every[name] else f"{name} ({count} of {every[name]})"
        for name, count in found.items()
    )
