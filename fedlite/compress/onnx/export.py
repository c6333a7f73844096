"""Exporting a model to ONNX, and checking the file against the model."""

import copy
from pathlib import Path
from weakref import WeakKeyDictionary

import onnx
import torch
from torch import Tensor, nn

from fedlite.base.errors import FedliteError
from fedlite.base.files import write_whole
from fedlite.base.tensors import state_sha256
from fedlite.compress.onnx.files import quiet, serialized, strip
from fedlite.compress.onnx.translations import translations_read_once
from fedlite.data.types import Task
from fedlite.serve.runtime import logits_of, open_runtime

TOLERANCE = 1e-3  # of the largest logit

# What each model was when it was last exported, and its file.
_last_export: WeakKeyDictionary[nn.Module, tuple[tuple[object, ...], bytes]] = WeakKeyDictionary()


def export_onnx(model: nn.Module, task: Task, path: Path, opset: int) -> None:
    """Write ``model`` to ``path`` as an fp32 ONNX file, atomically.

    The file takes ``input``, normalised float32 (batch, *task.input_shape) with any batch size,
    and answers ``logits`` (batch, classes). Normalisation stays outside: the bundle's
    ``preprocessing.json`` says how. Equal models give equal bytes. A model that was not changed
    since it was last exported is not traced again: each way to quantize it begins with this file.

    Raises:
        FedliteError: the model cannot be exported.
    """
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    asked = (opset, tuple(task.input_shape), repr(model), state_sha256(state))
    known = _last_export.get(model)
    if known is None or known[0] != asked:
        known = asked, serialized(_traced(model, task, opset))
        _last_export[model] = known
    write_whole(path, known[1])


def _traced(model: nn.Module, task: Task, opset: int) -> onnx.ModelProto:
    model = copy.deepcopy(model).cpu().eval()
    example = task.blank(2)
    try:
        with quiet(), translations_read_once():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["input"],
                output_names=["logits"],
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch.export raises whatever the model's own code raises
        cause = error.__cause__ or error  # torch.onnx says where it failed, the cause says why
        reason = (str(cause).strip() or repr(cause)).splitlines()[0]
        raise FedliteError(
            f"{type(model).__name__} cannot be exported to ONNX: {reason}"
        ) from error
    assert program is not None
    exported: onnx.ModelProto = program.model_proto
    strip(exported)
    return exported


def verify_onnx(model: nn.Module, path: Path, inputs: Tensor) -> float:
    """Largest absolute difference of logits between ``model`` and the file, over ``inputs``.

    Args:
        model: the model that was exported.
        path: the exported file.
        inputs: normalised, (n, *input_shape).

    Raises:
        FedliteError: the difference exceeds a thousandth of the largest logit (or of one).
    """
    with torch.no_grad():
        expected = copy.deepcopy(model).cpu().eval()(inputs)
    found = torch.from_numpy(logits_of(open_runtime(path), inputs.numpy()))
    difference = float((found - expected).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= allowed:
        raise FedliteError(
            f"{path}: logits differ from the model's by {difference:.2g}; at most {allowed:.2g}"
            " is expected: try another compress.opset"
        )
    return difference
