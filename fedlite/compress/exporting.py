"""Writing a model as a file of any format; converters run in processes of their own."""

import copy
import importlib.util
import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn

from fedlite.base.elsewhere import MissingPackageError, run_module
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import replace_folder, write_whole
from fedlite.compress.converters.handover import (
    MODEL,
    Quantization,
    read_float_ops,
    write_job,
)
from fedlite.compress.format import Format, format_of
from fedlite.compress.onnx.export import export_onnx
from fedlite.compress.onnx.files import quiet
from fedlite.compress.onnx.quantize import float_ops, quantize_onnx
from fedlite.compress.options import CompressOptions
from fedlite.data.types import PublicData, Task
from fedlite.distill.public import require_public


def export_file(
    format: str,
    model: nn.Module,
    task: Task,
    path: Path,
    config: CompressOptions,
    calibration: PublicData | None,
    *,
    quantized: bool,
) -> list[str]:
    """Write ``model`` to ``path`` as a file of ``format``, atomically; an older one is replaced.

    It takes ``input``, normalised float32, and answers ``logits``. ONNX files take any batch, the
    others one example at a time; LiteRT files can be resized where their graph allows it
    (:mod:`fedlite.compress.converters.free_batch`). Core ML packages are folders. ``qat`` is
    quantized like ``static``: its weights were trained for that.

    Args:
        format: a module of ``fedlite.compress.formats``.
        model: exported in eval mode; left as it is.
        task: what it sees and answers.
        path: its suffix is the format's.
        config: how to quantize, and ``converters``: the Python that has the format's converter.
        calibration: inputs that fix the ranges of static quantization.
        quantized: False writes fp32, whatever ``config.quantization`` says.

    Returns:
        The types of operators that a quantized file computes in float, in the format's own names.
        LiteRT and ExecuTorch name those that were left alone; fp32 files name none.

    Raises:
        TypeError: static quantization, and ``calibration`` is not :class:`PublicData`.
        UsageError: the format lacks that quantization, or there is no such format or converter.
        FedliteError: the converter is not installed, or cannot convert this model.
    """
    form = format_of(format)
    mode = config.quantization if quantized else "none"
    if mode == "qat":
        mode = "static"
    if mode == "static" or calibration is not None:
        require_public(calibration)
    _require_quantization(format, form, mode, config.bits)
    if format == "onnx":
        return _export_onnx(model, task, path, config, calibration, mode)
    options = Quantization(
        quantization=mode,
        bits=config.bits,
        symmetric=config.symmetric,
        per_channel=config.per_channel,
        percentile=config.percentile if config.calibration == "percentile" else None,
    )
    python = config.converters.get(format)
    _require_converter(format, form, python)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        inputs = calibration.inputs.numpy() if calibration and mode == "static" else None
        write_job(folder, _exported(model, task, format), options, inputs)
        try:
            run_module(f"fedlite.compress.converters.{format}", [str(folder)], python)
        except MissingPackageError as error:
            raise FedliteError(_missing(format, form, python)) from error
        except UsageError:
            raise
        except FedliteError as error:
            raise FedliteError(
                f"{type(model).__name__} cannot be converted to {format}"
                f" (compress.quantization={mode}): {error}"
            ) from error
        _put(folder / MODEL, path)
        return [] if mode == "none" else read_float_ops(folder)


def require_converters(config: CompressOptions) -> None:
    """Refuse a format whose converter is not there, before any work is done.

    Raises:
        UsageError: ``compress.converters`` names no file.
        FedliteError: the converter is not installed; says how to install it.
    """
    for format in config.formats:
        form = format_of(format)
        if form.needs is not None:
            _require_converter(format, form, config.converters.get(format))


def _require_quantization(format: str, form: Format, mode: str, bits: int) -> None:
    if mode == "none" or bits in form.bits.get(mode, ()):
        return
    has = ", ".join(
        f"{name} ({' or '.join(map(str, sizes))} bits)" if name == "weight_only" else name
        for name, sizes in form.bits.items()
    )
    raise UsageError(
        f"compress.quantization={mode}"
        + (f" with compress.bits={bits}" if mode in form.bits else "")
        + f": {format} files have {has} or none"
    )


def _require_converter(format: str, form: Format, python: str | None) -> None:
    assert form.needs is not None
    if python is None and importlib.util.find_spec(form.needs) is None:
        raise FedliteError(_missing(format, form, python))
    if python is not None and not Path(python).is_file():
        raise UsageError(
            f"compress.converters.{format}={python}: no such file; give the Python of an"
            f" environment that has {form.needs}"
        )


def _missing(format: str, form: Format, python: str | None) -> str:
    if python is not None:
        return f"compress.converters.{format}={python}: {form.needs} is not installed there"
    return (
        f"compress.formats: {format} needs {form.needs}, which is not installed:"
        f" pip install 'fedlite[{form.extra}]', or give the Python of an environment that has it"
        f" as +compress.converters.{format}=FILE"
    )


def _export_onnx(
    model: nn.Module,
    task: Task,
    path: Path,
    config: CompressOptions,
    calibration: PublicData | None,
    mode: str,
) -> list[str]:
    if mode == "none":
        export_onnx(model, task, path, config.opset)
        return []
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / f"{path.stem}.onnx"
        export_onnx(model, task, plain, config.opset)
        quantize_onnx(plain, path, config, calibration)
    return float_ops(path)


def _exported(model: nn.Module, task: Task, format: str) -> torch.export.ExportedProgram:
    """``model`` in eval mode as a program that takes one example."""
    model = copy.deepcopy(model).cpu().eval()
    try:
        with quiet():
            return torch.export.export(model, (task.blank(1),))
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise FedliteError(
            f"{type(model).__name__} cannot be exported to {format}: {reason}"
        ) from error


def _put(made: Path, path: Path) -> None:
    """Put a file, or a folder, in the place of an older one; whole or not at all."""
    if made.is_file():
        write_whole(path, made.read_bytes())
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
            new = Path(temporary) / "new"
            shutil.copytree(made, new)
            replace_folder(new, path)
    except OSError as error:
        raise FedliteError(f"{path}: cannot be written ({error.strerror or error})") from error
