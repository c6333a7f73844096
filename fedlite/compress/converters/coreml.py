"""Converting to Core ML (``.mlpackage``) with coremltools, and reading what such a package holds.

python -m fedlite.compress.converters.coreml FOLDER            converts
python -m fedlite.compress.converters.coreml --read PACKAGE FACTS.json
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch._decomp import get_decompositions

from fedlite.compress.converters.handover import Job, work

MOVES = {"const", "cast", "reshape", "transpose", "expand_dims", "squeeze", "concat", "split"}
ATEN = torch.ops.aten
# Unknown to the converter: written out step by step.
RECURRENT = [ATEN.gru.input, ATEN.lstm.input, ATEN.rnn_tanh.input, ATEN.rnn_relu.input]


def convert(job: Job) -> list[str]:
    """Write the folder ``job.target``; returns the operators, all of which compute in float.

    An fp32 package computes in float32. All others compute in float16, which the neural engine
    and the GPU ask for; inputs and outputs stay float32.
    """
    import coremltools
    import coremltools.optimize.coreml as optimize
    import numpy as np

    options = job.options
    four = options.quantization == "weight_only" and options.bits == 4
    target, precision = coremltools.target, coremltools.precision
    model = coremltools.convert(
        job.program.run_decompositions(get_decompositions(RECURRENT)),
        convert_to="mlprogram",
        inputs=[
            coremltools.TensorType(name="input", shape=tuple(job.example.shape), dtype=np.float32)
        ],
        outputs=[coremltools.TensorType(name="logits", dtype=np.float32)],
        minimum_deployment_target=target.iOS18 if four else target.iOS17,
        compute_precision=precision.FLOAT32
        if options.quantization == "none"
        else precision.FLOAT16,
    )
    if options.quantization == "weight_only":
        scheme = optimize.OpLinearQuantizerConfig(
            mode="linear_symmetric",
            dtype=f"int{options.bits}",
            granularity="per_channel" if options.per_channel else "per_tensor",
            weight_threshold=0,
        )
        model = optimize.linear_quantize_weights(model, optimize.OptimizationConfig(scheme))
    package = job.target.with_suffix(".mlpackage")
    model.save(str(package))
    package.rename(job.target)
    return [name for name in read(job.target)["operators"] if name not in MOVES]


def read(package: Path) -> dict[str, Any]:
    """What ``package`` takes, answers and does.

    ``inputs`` and ``outputs`` are lists of [name, shape, type]; ``operators`` the types of its
    operators, sorted; ``weights`` counts the numbers in its constants, widened ones included.
    """
    import coremltools

    proto = coremltools.proto.FeatureTypes_pb2.ArrayFeatureType.ArrayDataType
    spec = coremltools.models.MLModel(str(package), skip_model_load=True).get_spec()

    def described(features: Any) -> list[list[Any]]:
        arrays = [(one.name, one.type.multiArrayType) for one in features]
        return [[name, list(a.shape), proto.Name(a.dataType)] for name, a in arrays]

    operations = [
        operation
        for function in spec.mlProgram.functions.values()
        for block in function.block_specializations.values()
        for operation in block.operations
    ]
    constants = [one for one in operations if one.type.startswith("const")]
    types = [value.type.tensorType for one in constants for value in one.outputs]
    return {
        "inputs": described(spec.description.input),
        "outputs": described(spec.description.output),
        "operators": sorted({one.type for one in operations if not one.type.startswith("const")}),
        "weights": sum(math.prod(d.constant.size for d in one.dimensions) for one in types),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "--read":
        Path(sys.argv[3]).write_text(json.dumps(read(Path(sys.argv[2]))))
    else:
        work("coremltools", convert)
