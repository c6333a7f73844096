"""Converting to LiteRT (``.tflite``): litert-torch, and ai-edge-quantizer for the recipes.

python -m fedlite.compress.converters.litert FOLDER
"""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedlite.compress.converters.free_batch import with_free_batch
from fedlite.compress.converters.handover import Job, Quantization, work
from fedlite.compress.converters.ranges import Range

SIGNATURE = "serving_default"
WITHOUT_ARITHMETIC = {"QUANTIZE", "DEQUANTIZE", "DELEGATE", "RESHAPE", "TRANSPOSE", "CAST"}
WITHOUT_ARITHMETIC |= {"GATHER", "CONCATENATION", "SPLIT", "SLICE", "STRIDED_SLICE", "PACK", "PAD"}
# Norms and attention: slow and coarse in integers. Beside them, static int8 is for layers alone.
FLOAT_ONLY = {"RSQRT", "SQRT", "SOFTMAX", "GELU"}
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED")


class _Named(nn.Module):
    """Gives input and output of the file the names that they have in every format."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        return {"logits": self.model(input)}


def convert(job: Job) -> list[str]:
    """Write ``job.target``; returns the types of operators that compute in float32."""
    import litert_torch

    model = litert_torch.convert(_Named(job.program.module()), sample_kwargs={"input": job.example})
    with tempfile.TemporaryDirectory() as folder:
        plain, made = Path(folder) / "plain.tflite", Path(folder) / "made.tflite"
        model.export(str(plain))
        if job.options.quantization == "none":
            made = plain
        else:
            _quantize(plain, made, job.options, job.calibration)
        job.target.write_bytes(with_free_batch(_stripped(made)))
        return _float_ops(made)


def _quantize(
    source: Path, target: Path, options: Quantization, calibration: NDArray[np.float32] | None
) -> None:
    from ai_edge_quantizer import qtyping, quantizer

    granularity = qtyping.QuantGranularity.TENSORWISE
    if options.per_channel:
        granularity = qtyping.QuantGranularity.CHANNELWISE
    weights: dict[str, Any] = {"num_bits": options.bits, "symmetric": True}
    weights |= {"granularity": granularity}
    algorithm, activations = "min_max_uniform_quantize", None
    precision, explicit = qtyping.ComputePrecision.INTEGER, False
    match options.quantization:
        case "static":
            activations = qtyping.TensorQuantizationConfig(8, symmetric=options.symmetric)
        case "weight_only":
            precision, explicit = qtyping.ComputePrecision.FLOAT, True
        case "fp16":
            algorithm = "float_casting"
            weights = {"num_bits": 16, "dtype": qtyping.TensorDataType.FLOAT}
            precision, explicit = qtyping.ComputePrecision.FLOAT, True
    settings = qtyping.OpQuantizationConfig(
        activation_tensor_config=activations,
        weight_tensor_config=qtyping.TensorQuantizationConfig(**weights),
        compute_precision=precision,
        explicit_dequantize=explicit,
    )
    made = quantizer.Quantizer(str(source))
    if options.quantization == "static":
        _choose_operators(made, source, settings)
    else:
        everything = qtyping.TFLOperationName.ALL_SUPPORTED
        made.update_quantization_recipe(".*", everything, settings, algorithm)
    ranges = None
    if made.need_calibration:
        assert calibration is not None
        ranges = made.calibrate({SIGNATURE: [{"input": calibration[:1]}]}, num_threads=1)
        measured = _ranges(source, calibration, options)
        for name, found in ranges.items():
            low, high = measured[name].ends()
            found["min"], found["max"] = (
                np.full_like(found["min"], low),
                np.full_like(found["max"], high),
            )
    made.quantize(ranges, enable_progress_report=False).export_model(str(target))


def _choose_operators(made: Any, source: Path, settings: Any) -> None:
    """Tell the quantizer which operators of the file become integers; input and output stay float.

    Graphs within operators (what a window of values is reduced by) stay float too: the quantizer
    finds no ranges there.
    """
    from ai_edge_litert.tools import flatbuffer_utils
    from ai_edge_quantizer.qtyping import TFLOperationName

    model = flatbuffer_utils.read_model(str(source))
    main, *inner = model.subgraphs
    found = {flatbuffer_utils.opcode_to_name(model, one.opcodeIndex) for one in main.operators}
    for name in LAYERS if found & FLOAT_ONLY else ["*"]:
        made.update_quantization_recipe(".*", TFLOperationName(name), settings)
    for name in ("INPUT", "OUTPUT"):
        made.update_quantization_recipe(".*", TFLOperationName(name), algorithm_key="no_quantize")
    names = [re.escape(tensor.name.decode()) for graph in inner for tensor in graph.tensors]
    if names:
        within, everything = f"^({'|'.join(names)});", TFLOperationName.ALL_SUPPORTED
        made.update_quantization_recipe(within, everything, algorithm_key="no_quantize")


def _ranges(path: Path, inputs: NDArray[np.float32], options: Quantization) -> dict[str, Range]:
    """Ranges of all float tensors of the file by name, over ``inputs``."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), experimental_preserve_all_tensors=True, num_threads=1)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    found: dict[str, Range] = {}
    for one in inputs:
        interpreter.set_tensor(index, one[None])
        interpreter.invoke()
        for tensor in interpreter.get_tensor_details():
            if tensor["dtype"] != np.float32:
                continue
            try:
                values = interpreter.get_tensor(tensor["index"])
            except ValueError:  # the runtime keeps it to itself
                continue
            name = tensor["name"]
            if name not in found:
                found[name] = Range(options.percentile, len(inputs), options.symmetric)
            found[name].update(values)
    return found


def _stripped(path: Path) -> bytes:
    """The file without the names of inner tensors, which hold class names, and metadata."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    model.description, model.metadata = b"", None
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.name = b""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _float_ops(path: Path) -> list[str]:
    """Types of operators whose operands and results are all float32, sorted."""
    from ai_edge_litert.interpreter import Interpreter

    found = set()
    for op in Interpreter(str(path))._get_ops_details():
        types = {np.dtype(kind) for kind in (*op["operand_types"], *op["result_types"])}
        if types <= {np.dtype(np.float32), np.dtype(np.int32)} and np.dtype(np.float32) in types:
            found.add(op["op_name"])
    return sorted(found - WITHOUT_ARITHMETIC)


if __name__ == "__main__":
    torch.set_num_threads(1)
    work("litert_torch", convert)
