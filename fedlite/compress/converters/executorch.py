"""Converting to ExecuTorch (``.pte``): the XNNPACK backend, quantized by PT2E.

python -m fedlite.compress.converters.executorch FOLDER
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlite.compress.converters.handover import Job, Quantization, work
from fedlite.compress.converters.ranges import Range

WITHOUT_ARITHMETIC = {"view", "reshape", "flatten", "permute", "transpose", "getitem", "dropout"}
WITHOUT_ARITHMETIC |= {"unsqueeze", "squeeze", "cat", "chunk", "split", "slice", "select", "expand"}
WITHOUT_ARITHMETIC |= {"stack", "unflatten", "contiguous", "arange", "zeros"}


def convert(job: Job) -> list[str]:
    """Write ``job.target``; returns the operators that compute in float32."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program, float_ops = job.program, _operators(job.program.graph_module)
    if job.options.quantization != "none":
        program, float_ops = _quantized(job)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    job.target.write_bytes(lowered.to_executorch().buffer)
    return float_ops


def _quantized(job: Job) -> tuple[torch.export.ExportedProgram, list[str]]:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    options = job.options
    dynamic = options.quantization == "dynamic"
    config = get_symmetric_quantization_config(
        is_per_channel=options.per_channel, is_dynamic=dynamic
    )
    quantizer = XNNPACKQuantizer()
    if dynamic:
        quantizer.set_operator_type(torch.ops.aten.linear.default, config)
        inputs = job.example.numpy()
    else:
        assert job.calibration is not None
        inputs = job.calibration
        quantizer.set_global(_with_our_ranges(config, options, inputs))
    prepared = prepare_pt2e(job.program.module(), quantizer)
    for one in inputs:
        prepared(torch.from_numpy(one)[None])
    float_ops = _operators(prepared)
    return torch.export.export(convert_pt2e(prepared), (job.example,)), float_ops


def _with_our_ranges(config: Any, options: Quantization, inputs: NDArray[np.float32]) -> Any:
    """``config`` with activations whose ranges are found as ``options`` say."""
    from torchao.quantization.pt2e.observer import MinMaxObserver

    class Observer(MinMaxObserver):  # type: ignore[misc]  # untyped library class
        """Hands the range so far on to the library's own arithmetic of scales."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.found = Range(options.percentile, len(inputs), options.symmetric)

        def forward(self, x_orig: Tensor) -> Tensor:
            self.found.update(x_orig.detach().numpy())
            low, high = self.found.ends()
            self.min_val, self.max_val = torch.tensor(low), torch.tensor(high)
            return x_orig

    def ours(spec: Any) -> Any:
        scheme = torch.per_tensor_symmetric if options.symmetric else torch.per_tensor_affine
        return replace(spec, observer_or_fake_quant_ctr=Observer.with_args(), qscheme=scheme)

    return replace(
        config,
        input_activation=ours(config.input_activation),
        output_activation=ours(config.output_activation),
    )


def _operators(graph_module: torch.fx.GraphModule) -> list[str]:
    """Operators that the quantizer left alone, all if it did not run; those that only move data
    do not count."""
    found = set()
    for node in graph_module.graph.nodes:
        annotation = node.meta.get("quantization_annotation")
        if isinstance(node.target, torch._ops.OpOverload) and annotation is None:
            found.add(node.target.overloadpacket.__name__)
    return sorted(found - WITHOUT_ARITHMETIC)


if __name__ == "__main__":
    torch.set_num_threads(1)
    work("executorch", convert)
