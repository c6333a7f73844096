"""Whether this machine's int8 kernels are exact.

x86 without VNNI multiplies unsigned by signed bytes with instructions that saturate at 16 bits, and
ONNX Runtime uses them: files quantized to int8 then lose accuracy that they keep elsewhere.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper


def is_exact() -> bool:
    """One product of large bytes, as the runtime computes it and as it is."""
    weights = np.full((256, 64), 127, dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["inputs", "weights"], ["outputs"])],
        "probe",
        [helper.make_tensor_value_info("inputs", TensorProto.UINT8, [4, 256])],
        [helper.make_tensor_value_info("outputs", TensorProto.INT32, [4, 64])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [outputs] = session.run(None, {"inputs": np.full((4, 256), 255, dtype=np.uint8)})
    return bool((outputs == 255 * 127 * 256).all())


needs_exact_int8 = pytest.mark.skipif(
    not is_exact(), reason="this processor's int8 products saturate (x86 without VNNI)"
)
