"""ONNX files: read, strip of all that the runtime does not need, written atomically, quietly."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime

from fedlite.errors import FedliteError, UsageError
from fedlite.files import write_whole


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the chatter of exporter and quantizer: prints, warnings, logs below error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
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
    write_whole(path, model.SerializeToString(deterministic=True))


def strip(model: onnx.ModelProto) -> None:
    """Remove what the runtime does not need, in place: the numbers and operators stay.

    That is metadata (the exporter's source lines and stack traces), doc strings, recorded shapes
    of inner tensors, unused constants, and the long names of nodes and inner tensors. Inputs and
    outputs keep their names. A model with subgraphs (loops, branches) keeps all names.
    """
    graph = model.graph
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
