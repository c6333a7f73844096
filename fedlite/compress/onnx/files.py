"""ONNX files: read, strip of all that the runtime does not need, written atomically, quietly."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import write_whole

# Defaults of convolutions and pools, one number for each axis, that are in no schema.
UNSAID_DEFAULTS = {"dilations": 1, "strides": 1, "pads": 0}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the chatter of exporter and quantizer: prints, warnings, logs below error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),  # where a graph that fails is printed
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in ``path``.

    Raises:
        UsageError: no such file.
        FedliteError: the file is damaged or not a model.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; expected an exported model (.onnx)")
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's errors share no public base class
        raise FedliteError(f"{path}: not an ONNX model, or damaged") from error


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` to ``path`` atomically."""
    write_whole(path, serialized(model))


def serialized(model: onnx.ModelProto) -> bytes:
    """The bytes of ``model`` as a file; equal models give equal bytes."""
    made: bytes = model.SerializeToString(deterministic=True)
    return made


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that ``model`` is written in."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    return int(versions.get("", versions.get("ai.onnx", 1)))


def strip(model: onnx.ModelProto) -> None:
    """Remove what the runtime does not need, in place: the numbers and operators stay.

    That is metadata (the exporter's source lines and stack traces), doc strings, recorded shapes
    of inner tensors, unused constants, attributes that say the default, and the long names of nodes
    and inner tensors. Inputs and outputs keep their names. A model with subgraphs (loops,
    branches) keeps all names.
    """
    graph, opset = model.graph, opset_of(model)
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    model.doc_string = graph.doc_string = ""
    public = {value.name for value in (*graph.input, *graph.output)}
    short: dict[str, str] = {name: name for name in public} | {"": ""}
    nested = any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute)

    def rename(name: str) -> str:
        return short.setdefault(name, name if nested else f"t{len(short):x}")

    for node in graph.node:
        del node.metadata_props[:]
        node.name = node.doc_string = ""
        _drop_defaults(node, opset)
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
    used = [tensor for tensor in graph.initializer if nested or tensor.name in short]
    del graph.initializer[:]
    graph.initializer.extend(used)
    for tensor in graph.initializer:
        tensor.name, tensor.doc_string = rename(tensor.name), ""
        del tensor.metadata_props[:]
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]


def _drop_defaults(node: onnx.NodeProto, opset: int) -> None:
    """Remove attributes of ONNX's own operators that hold their default, in place."""
    if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, node.domain):
        return
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    kept = [a for a in node.attribute if not _is_default(a, schema.attributes[a.name])]
    del node.attribute[:]
    node.attribute.extend(kept)


def _is_default(attribute: onnx.AttributeProto, described: onnx.defs.OpSchema.Attribute) -> bool:
    if attribute.name in UNSAID_DEFAULTS:
        return set(attribute.ints) == {UNSAID_DEFAULTS[attribute.name]}
    default = described.default_value
    return default.type == attribute.type and bool(
        onnx.helper.get_attribute_value(default) == onnx.helper.get_attribute_value(attribute)
    )
