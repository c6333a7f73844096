"""The compression stage: prune, recover, export, verify, quantize."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fedlite.compress.export import export_onnx, verify_onnx
from fedlite.compress.prune import count_nonzero, prune_channels, recover, weight_masks
from fedlite.compress.pruned_file import save_pruned
from fedlite.compress.quantize import float_ops, quantize_onnx
from fedlite.config import AugmentConfig, CompressConfig
from fedlite.data.types import PublicData, Task
from fedlite.distill.public import require_public
from fedlite.models.build import count_parameters


@dataclass(frozen=True)
class CompressedStudent:
    """What compression made of a student.

    ``nonzero_weights`` counts weights of convolutions and linear layers. ``max_difference`` is the
    largest difference of logits between the pruned model and its fp32 file. ``float_ops`` are the
    operator types that the runtime still computes in float32 in the quantized file. The gzip sizes
    show what sparsity is for: it shrinks the compressed transfer, neither the file nor the time.
    """

    model: nn.Module
    pruned_model_path: Path
    pruned_path: Path
    quantized_path: Path
    parameters_before: int
    parameters_after: int
    nonzero_weights: int
    max_difference: float
    float_ops: list[str]
    pruned_gzip_bytes: int
    quantized_gzip_bytes: int


def compress_student(
    student: nn.Module,
    task: Task,
    public: PublicData,
    config: CompressConfig,
    augment: AugmentConfig,
    directory: Path,
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> CompressedStudent:
    """Prune ``student``, recover it on public data, export and quantize it into ``directory``.

    Writes ``pruned_student.pt``, ``pruned_student.onnx`` (fp32) and ``quantized_student.onnx``.
    The student itself stays as it is and teaches the recovery. Where nothing is pruned there is
    nothing to recover and no step is taken. The same arguments give the same files.

    Args:
        student: the federated student.
        task: what it sees and answers.
        public: for recovery, calibration and the check of the exported file.
        config: how much to prune and how to quantize.
        augment: of the inputs during recovery.
        directory: made if missing.
        seed: of recovery and of the choice of calibration examples.
        on_step: called with the number of finished recovery steps.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
        FedliteError: a step cannot be done for this model.
    """
    require_public(public)
    directory.mkdir(parents=True, exist_ok=True)
    pruned = prune_channels(student, task.input_shape, config.ratio, config.round_to)
    if config.ratio > 0 or config.sparsity > 0:
        masks = weight_masks(pruned, config.sparsity) if config.sparsity > 0 else {}
        recover(pruned, student, public, config, augment, masks, seed, on_step)
    pruned.eval()
    calibration = choose(public, config.calibration_size, seed)
    model_path = directory / "pruned_student.pt"
    pruned_path, quantized_path = (
        directory / f"{name}_student.onnx" for name in ("pruned", "quantized")
    )
    save_pruned(pruned, model_path)
    export_onnx(pruned, task, pruned_path, config.opset)
    max_difference = verify_onnx(pruned, pruned_path, calibration.inputs)
    quantize_onnx(pruned_path, quantized_path, config.quantization, calibration)
    return CompressedStudent(
        model=pruned,
        pruned_model_path=model_path,
        pruned_path=pruned_path,
        quantized_path=quantized_path,
        parameters_before=count_parameters(student),
        parameters_after=count_parameters(pruned),
        nonzero_weights=count_nonzero(pruned),
        max_difference=max_difference,
        float_ops=float_ops(quantized_path),
        pruned_gzip_bytes=_gzip_bytes(pruned_path),
        quantized_gzip_bytes=_gzip_bytes(quantized_path),
    )


def choose(public: PublicData, size: int, seed: int) -> PublicData:
    """``size`` examples of ``public`` (all, if it has fewer), drawn without replacement."""
    order = torch.randperm(len(public), generator=torch.Generator().manual_seed(seed))[:size]
    return PublicData(public.inputs[order], public.labels[order])


def _gzip_bytes(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), mtime=0))
