"""Weights of an ONNX file stored in fewer bits, and widened to float32 when it is loaded.

Widening is written as ``Cast`` and ``Mul`` of constants, which ONNX Runtime folds once, at load:
such a file runs as fast as its fp32 original. (It keeps ``DequantizeLinear`` for integer kernels;
where there is none, that runs at every call and is several times slower.)
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from fedlite.compress.onnx.files import opset_of

Floats = NDArray[np.float32]

INT4_OPSET = 21  # the first with 4-bit tensors
BLOCK = 32  # most weights that share a scale at 4 bits
SHRINKS = np.linspace(1.0, 0.7, 7, dtype=np.float32)  # of the range at 4 bits, tried in this order

# Where the operators that have weights hold them.
WEIGHT_INPUTS = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (1,),
    "MatMul": (0, 1),
    "Gather": (0,),
    "GRU": (1, 2),
    "LSTM": (1, 2),
    "RNN": (1, 2),
}


@dataclass(frozen=True)
class Quantized:
    """Weights as ``integers * scales``, both in the shape that broadcasts; then reshaped."""

    integers: NDArray[np.int8]
    scales: Floats


def narrow_weights(
    model: onnx.ModelProto,
    bits: int,
    per_channel: bool = True,
    ops: Collection[str] = tuple(WEIGHT_INPUTS),
) -> onnx.ModelProto:
    """Store the float32 weights of ``ops`` as integers of ``bits`` bits, symmetric around zero.

    Scales are one per output channel (a row of an embedding table counts as one), or one per
    tensor; at 4 bits one per block of at most :data:`BLOCK` weights of an output channel, with the
    range shrunk where that lowers the squared error. Biases, norms and scales stay float32.

    Args:
        model: changed in place.
        bits: 8 or 4.
        per_channel: False for one scale per tensor; at 4 bits blocks always have their own.
        ops: types of operators whose weights are stored; of :data:`WEIGHT_INPUTS`.

    Returns:
        The model; a new one, of opset :data:`INT4_OPSET`, where 4 bits met an earlier opset.
    """
    if bits == 4:
        model = _with_opset(model, INT4_OPSET)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    widening: list[onnx.NodeProto] = []
    for name, axis in _weights(graph, ops):
        weight = numpy_helper.to_array(constants[name])
        quantized = quantize_weight(weight, axis, bits, per_channel)
        constants[name].CopyFrom(_stored(quantized.integers, f"{name}_integers", bits))
        graph.initializer.append(numpy_helper.from_array(quantized.scales, f"{name}_scales"))
        blocked = quantized.integers.shape != weight.shape
        product = f"{name}_blocks" if blocked else name
        widening += [
            _cast(f"{name}_integers", f"{name}_wide"),
            helper.make_node("Mul", [f"{name}_wide", f"{name}_scales"], [product]),
        ]
        if blocked:
            shape = np.array(weight.shape, dtype=np.int64)
            graph.initializer.append(numpy_helper.from_array(shape, f"{name}_shape"))
            widening.append(helper.make_node("Reshape", [product, f"{name}_shape"], [name]))
    _put_first(graph, widening)
    return model


def quantize_weight(weight: Floats, axis: int, bits: int, per_channel: bool = True) -> Quantized:
    """Round ``weight`` to signed integers of ``bits`` bits; see :func:`narrow_weights`.

    Args:
        weight: of any shape.
        axis: the one that counts output channels.
        bits: 8 or 4.
        per_channel: False for one scale per tensor, at 8 bits.
    """
    top = 2 ** (bits - 1) - 1
    if bits == 4:
        view, over = _blocks(weight, axis)
        shrinks = SHRINKS
    else:
        view, shrinks = weight, SHRINKS[:1]
        over = tuple(i for i in range(weight.ndim) if i != axis or not per_channel)
    largest = np.abs(view).max(axis=over, keepdims=True) / top
    whole = np.where(largest < np.finfo(np.float32).tiny, 1, largest).astype(np.float32)
    best = whole
    least = np.full(whole.shape, np.inf, dtype=np.float32)
    for shrink in shrinks:
        scales = whole * shrink
        error = np.square(_round(view, scales, top) * scales - view).sum(axis=over, keepdims=True)
        best = np.where(error < least, scales, best)
        least = np.minimum(error, least)
    return Quantized(_round(view, best, top).astype(np.int8), best)


def halve_floats(model: onnx.ModelProto) -> None:
    """Store float32 constants as float16, in place; the arithmetic stays float32.

    All vectors (biases, scales, norms) become one constant that is split at load, for every
    constant of its own costs bytes. Scalars stay, and so does what float16 cannot hold: anything
    above its range, or non-zero and below it.
    """
    graph = model.graph
    vectors: list[tuple[str, NDArray[np.float16]]] = []
    widening: list[onnx.NodeProto] = []
    kept = []
    for tensor in graph.initializer:
        halved = _halved(tensor)
        if halved is None:
            kept.append(tensor)
        elif halved.ndim == 1:
            vectors.append((tensor.name, halved))
        else:
            kept.append(numpy_helper.from_array(halved, f"{tensor.name}_half"))
            widening.append(_cast(f"{tensor.name}_half", tensor.name))
    if vectors:
        names, values = [name for name, _ in vectors], [value for _, value in vectors]
        sizes = np.array([len(value) for value in values], dtype=np.int64)
        kept.append(numpy_helper.from_array(np.concatenate(values), "vectors_half"))
        kept.append(numpy_helper.from_array(sizes, "vector_sizes"))
        widening.append(_cast("vectors_half", "vectors"))
        widening.append(helper.make_node("Split", ["vectors", "vector_sizes"], names, axis=0))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    _put_first(graph, widening)


def unshare_weights(model: onnx.ModelProto) -> None:
    """Give every operator that reads the same weights (tied ones) a copy of its own, in place: one
    may then be stored otherwise than the others. :func:`share_constants` joins equal ones again."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) >= 2}
    readers: Counter[str] = Counter()
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name not in weights:
                continue
            readers[name] += 1
            if readers[name] > 1:
                own = graph.initializer.add()
                own.CopyFrom(weights[name])
                own.name = node.input[position] = f"{name}_{readers[name]}"


def share_constants(model: onnx.ModelProto) -> None:
    """Keep one of all constants with the same type, shape and values, in place."""
    graph = model.graph
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor).tobytes()
        name = first.setdefault((tensor.data_type, tuple(tensor.dims), values), tensor.name)
        renamed[tensor.name] = name
        if name == tensor.name:
            kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def _weights(graph: onnx.GraphProto, ops: Collection[str]) -> Iterator[tuple[str, int]]:
    """Names of the float32 weights of ``ops``, each once, with the axis of output channels."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    seen = set()
    for node in graph.node:
        for position in WEIGHT_INPUTS.get(node.op_type, ()) if node.op_type in ops else ():
            name = node.input[position]
            tensor = constants.get(name)
            if tensor is None or tensor.data_type != TensorProto.FLOAT or name in seen:
                continue
            if len(tensor.dims) >= 2:
                seen.add(name)
                yield name, _output_axis(node, position, len(tensor.dims))


def _output_axis(node: onnx.NodeProto, position: int, dims: int) -> int:
    """The axis of a weight that counts output channels; the rows of a table."""
    match node.op_type:
        case "Conv" | "Gather":
            return 0
        case "Gemm":
            return 0 if any(a.name == "transB" and a.i == 1 for a in node.attribute) else 1
        case "MatMul":
            return dims - 1 if position == 1 else dims - 2
        case _:  # (inputs, outputs, ...) of ConvTranspose, (directions, outputs, inputs) of RNNs
            return 1


def _blocks(weight: Floats, axis: int) -> tuple[Floats, tuple[int, ...]]:
    """``weight`` with its inputs cut into blocks, and the axes that share a scale.

    Blocks are cut only where the output axis is the first or the last; else it stays whole.
    """
    outputs = weight.shape[axis]
    inputs = weight.size // outputs
    size = max(n for n in range(1, min(inputs, BLOCK) + 1) if inputs % n == 0)
    if size < BLOCK // 4:  # a prime number of inputs, say: a scale would cost as much as it saves
        size = inputs
    if axis == 0:
        return weight.reshape(outputs, inputs // size, size), (2,)
    if axis == weight.ndim - 1:
        return weight.reshape(inputs // size, size, outputs), (1,)
    return weight, tuple(i for i in range(weight.ndim) if i != axis)


def _round(view: Floats, scales: Floats, top: int) -> Floats:
    rounded: Floats = np.clip(np.rint(view / scales), -top, top)
    return rounded


def _halved(tensor: onnx.TensorProto) -> NDArray[np.float16] | None:
    """``tensor`` as float16; None for scalars, other types and what float16 cannot hold."""
    if tensor.data_type != TensorProto.FLOAT or not tensor.dims:
        return None
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        halved = values.astype(np.float16)
    if not np.isfinite(halved).all() or ((halved == 0) != (values == 0)).any():
        return None
    return halved


def _stored(integers: NDArray[np.int8], name: str, bits: int) -> onnx.TensorProto:
    """A constant of 8-bit, or packed 4-bit, integers."""
    if bits == 8:
        return numpy_helper.from_array(integers, name)
    nibbles = np.append(integers.ravel(), np.zeros(integers.size % 2, np.int8)).view(np.uint8) & 15
    packed = nibbles[::2] | nibbles[1::2] << 4  # the first of two in the low half
    return helper.make_tensor(name, TensorProto.INT4, integers.shape, packed.tobytes(), raw=True)


def _cast(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], to=TensorProto.FLOAT)


def _put_first(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    every = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(every)


def _with_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """``model`` in ``opset``, or as it is where it already has that or a later one."""
    return model if opset_of(model) >= opset else version_converter.convert_version(model, opset)
