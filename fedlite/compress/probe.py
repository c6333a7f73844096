"""Whether a student can be cut and exported, and how large it will be, asked before its budget is
spent."""

import tempfile
from pathlib import Path

import torch
from torch import nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.exporting import export_file
from fedlite.compress.format import suffix_of
from fedlite.compress.onnx.export import export_onnx, verify_onnx
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.norms import bake_weights
from fedlite.compress.shrink.prune import Criterion, cut_channels, plan_widths
from fedlite.compress.shrink.pruned_file import load_pruned, save_pruned
from fedlite.data.types import PublicData, Task
from fedlite.models.options import ModelOptions
from fedlite.serve.runtime import size_of

SHOWN = 32  # examples that fix the ranges of a file of which only the size counts


def check_cut(student: nn.Module, task: Task, config: CompressOptions) -> nn.Module:
    """Cut ``student`` by its magnitudes as compression will; return what is left.

    A search finds out for itself which cuts a student bears.

    Raises:
        UsageError: names the option, and what would be right.
    """
    baked = bake_weights(student)
    if config.search.enabled:
        return baked
    try:
        plan = plan_widths(baked, task, config.ratio, config.round_to, config.layer_ratios)
        if not plan:
            return baked
        widths = {name: width.kept for name, width in plan.items()}
        return cut_channels(baked, task, widths, Criterion())
    except UsageError:
        raise
    except FedliteError as error:
        raise UsageError(f"student: {error}; nothing was trained or charged") from error


def check_loads(cut: nn.Module, model: ModelOptions, task: Task) -> None:
    """Write what :func:`check_cut` left to a file as compression will, and load it again.

    Raises:
        UsageError: the class of ``model`` does not take the widths and weights that it is given.
    """
    inputs, cut = task.random(2, torch.Generator().manual_seed(0)), cut.eval()
    try:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            path = Path(folder) / "student.pt"
            save_pruned(cut, path)
            loaded = load_pruned(path, model, task)
            if not torch.equal(loaded(inputs), cut(inputs)):
                raise FedliteError("it answers otherwise")
    except FedliteError as error:
        raise UsageError(
            f"student.module={model.module}: its pruned form cannot be loaded from a file again"
            f" ({error}); let its forward read every size from its layers, or use compress.ratio=0;"
            " nothing was trained or charged"
        ) from error


def shipped_bytes(cut: nn.Module, task: Task, config: CompressOptions, public: PublicData) -> int:
    """Bytes of the largest file that would ship of what :func:`check_cut` left of a student, if no
    file were refused.

    Raises:
        FedliteError: it cannot be exported as ``config`` asks.
    """
    shown = PublicData(public.inputs[:SHOWN], public.labels[:SHOWN])
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"student{suffix_of(name)}" for name in config.formats]
        for name, path in zip(config.formats, paths, strict=True):
            export_file(name, cut, task, path, config, shown, quantized=True)
        return max(map(size_of, paths))


def check_export(model: nn.Module, task: Task, config: CompressOptions) -> None:
    """Export ``model`` to ONNX, which every run does, and compare the file with it.

    Raises:
        UsageError: says why it cannot be, and how to train it all the same.
    """
    inputs = task.random(3, torch.Generator().manual_seed(0))
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "student.onnx"
            export_onnx(model, task, path, config.opset)
            verify_onnx(model, path, inputs)
    except Exception as error:  # the runtime too raises of many kinds, such as for a fixed batch
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UsageError(
            f"student.module: {type(model).__name__} cannot be deployed as an ONNX file for any"
            f" number of examples: {reason}; nothing was trained or charged (`fedlite federate`"
            " trains without exporting)"
        ) from error
