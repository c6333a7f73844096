"""Graphs rewritten to what ONNX Runtime's integer kernels on the CPU are fast with."""

import math
from collections import defaultdict

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

LAYERS = ("Conv", "MatMul", "Gemm", "Clip", "Relu")  # activations vanish into the layer before
# With these too, a network of layers and activations stays in integers between its ends.
BETWEEN_LAYERS = (
    *("Add", "Mul", "Sigmoid", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Concat", "Split", "Slice", "Pad"),
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"),
)
# Computed in float32 in any case; next to them, integers would only be converted to and fro.
FLOAT_ONLY = {"InstanceNormalization", "LayerNormalization", "GroupNormalization", "Softmax"}
FLOAT_ONLY |= {"BatchNormalization", "RMSNormalization", "Gelu", "Erf", "GRU", "LSTM", "RNN"}

ACTIVATIONS = {"Clip", "Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu"}
INPUT_CHANNELS = 4  # of convolutions, multiplied together
DEPTHWISE_CHANNELS = 16  # of depthwise convolutions, likewise
SMALL_LAYER = 2048  # weights; a last layer up to this size is no faster in integers


def operators_to_quantize(model: onnx.ModelProto) -> tuple[str, ...]:
    """The operator types whose integer form makes this model fastest on the CPU.

    All that ONNX Runtime has integer kernels for, where no operator needs float32; in networks with
    norms or softmax the layers alone.
    """
    found = {node.op_type for node in model.graph.node}
    return LAYERS if found & FLOAT_ONLY else LAYERS + BETWEEN_LAYERS


def layers_in_float(model: onnx.ModelProto) -> list[str]:
    """Names of the layers that are better computed in float32, with weights stored in int8.

    - Matrix products without a constant (attention): in integers they lose accuracy.
    - Convolutions over channels that are no multiple of ``INPUT_CHANNELS`` (depthwise ones too),
      where no integers reach them: at the input, and in networks that are in float between layers.
      The runtime's fast kernel does not take them. A network with max pools begins in integers, for
      the runtime moves the rounding before the pool and has no fast pool of integers there.
    - A small last layer: rounding and widening the logits takes longer than it saves.
    """
    graph, in_integers = model.graph, operators_to_quantize(model) != LAYERS
    dims = {tensor.name: tensor.dims for tensor in graph.initializer}
    pools = any(node.op_type == "MaxPool" for node in graph.node)
    chosen = []
    for node in graph.node:
        weights = next((dims[name] for name in node.input[1:2] if name in dims), None)
        match node.op_type:
            case "MatMul":
                in_float = not dims.keys() & set(node.input)
            case "Conv" if weights is not None and weights[1] % INPUT_CHANNELS != 0:
                begins = node.input[0] == graph.input[0].name
                in_float = (begins and not pools) or not in_integers
            case "Gemm" if weights is not None and node.output[0] == graph.output[0].name:
                in_float = math.prod(weights) <= SMALL_LAYER
            case _:
                in_float = False
        if in_float:
            chosen.append(node.name)
    return chosen


def pool_globally(model: onnx.ModelProto) -> None:
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


def fill_depthwise(graph: onnx.GraphProto) -> None:
    """Widen depthwise convolutions to a multiple of ``DEPTHWISE_CHANNELS`` channels, in place.

    The new channels are copies, so that ranges of activations stay, and zero weights of the
    convolution after ignore them: all results stay. The runtime's fast kernel takes full groups of
    channels alone; the other one, which serves pruned networks otherwise, is half as fast.
    Depthwise convolutions that are not between two others, activations apart, stay as they are.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)

    def before(node: onnx.NodeProto) -> onnx.NodeProto | None:
        maker = makers.get(node.input[0])
        if maker is None or len(readers[node.input[0]]) > 1:
            return None
        return before(maker) if maker.op_type in ACTIVATIONS else maker

    def after(node: onnx.NodeProto) -> onnx.NodeProto | None:
        if len(readers[node.output[0]]) != 1:
            return None
        (reader,) = readers[node.output[0]]
        return after(reader) if reader.op_type in ACTIVATIONS else reader

    def fill(node: onnx.NodeProto, axis: int, missing: int) -> None:
        for position in range(1, len(node.input) if axis == 0 else 2):  # the bias has outputs alone
            values = numpy_helper.to_array(constants[node.input[position]])
            widths = [(0, missing if i == axis else 0) for i in range(values.ndim)]
            node.input[position] += f"_filled_{axis}"
            constants[node.input[position]] = numpy_helper.from_array(
                np.pad(values, widths, mode="wrap" if axis == 0 else "constant"),
                node.input[position],
            )

    for node in graph.node:
        groups = _groups(node, constants)
        missing = -groups % DEPTHWISE_CHANNELS
        if groups == 1 or not missing or constants[node.input[1]].dims[:2] != [groups, 1]:
            continue
        source, target = before(node), after(node)
        if source is None or target is None or _groups(source, constants) != 1:
            continue
        if _groups(target, constants) == 1:
            fill(source, 0, missing)
            fill(node, 0, missing)
            fill(target, 1, missing)
            next(a for a in node.attribute if a.name == "group").i += missing
    del graph.initializer[:]
    graph.initializer.extend(constants.values())


def _groups(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> int:
    """The groups of a convolution with constant weights and bias; 0 for any other node."""
    if node.op_type != "Conv" or not constants.keys() >= set(node.input[1:]):
        return 0
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)
