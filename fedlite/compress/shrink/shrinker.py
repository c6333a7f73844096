"""From a full student to the models that are exported: norms folded, pruned, ready for int8."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from fedlite.base.compute import CPU
from fedlite.compress.exporting import export_file
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.norms import bake_weights, fold_norms
from fedlite.compress.shrink.qat import train_quantization_aware
from fedlite.compress.shrink.schedule import prune_and_recover
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, Task
from fedlite.distill.public import require_public

_NORMS = ("norms", "norm_steps", "recovery_learning_rate", "recovery_batch_size")
_PRUNING = (
    *_NORMS,
    "ratio",
    "layer_ratios",
    "criterion",
    "schedule",
    "iterations",
    "round_to",
    "sparsity",
    "sparsity_criterion",
    "recovery_steps",
    "recovery_from",
)
_TRAINING = (
    *_PRUNING,
    "quantization",
    "symmetric",
    "per_channel",
    "qat_steps",
    "qat_learning_rate",
)


@dataclass
class Shrinker:
    """The smaller forms of one student; each is made once for the options that decide it.

    All of it is post-processing: public data alone is used. The models are handed out as they are
    kept: callers must not change them.

    Args:
        student: the federated student; it stays as it is.
        teacher: teaches the recovery where ``recovery_from`` says so.
        task: what they see and answer.
        public: for learning norms, recovery, gradients and quantization-aware training.
        augment: of the inputs of all that.
        seed: of all that.
        on_step: called after each training step.
        device: where recovery computes; quantization is simulated on the processor.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
    """

    student: nn.Module
    teacher: nn.Module
    task: Task
    public: PublicData
    augment: AugmentOptions
    seed: int
    on_step: Callable[[int], None] | None = None
    device: torch.device = CPU
    _made: dict[str, nn.Module] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        require_public(self.public)

    def folded(self, config: CompressOptions) -> nn.Module:
        """The student without norms that cost time; under ``keep`` its weights baked, no more."""
        if config.norms == "keep":
            return self._once(("norms",), config, lambda: bake_weights(self.student))
        return self._once(
            _NORMS,
            config,
            lambda: fold_norms(
                self.student,
                self.task,
                self.public,
                config,
                self.augment,
                self.seed,
                self.on_step,
                self.device,
            ),
        )

    def pruned(self, config: CompressOptions) -> nn.Module:
        """The folded student, pruned and recovered.

        Raises:
            FedliteError: it cannot be pruned as asked.
        """
        return self._once(
            _PRUNING,
            config,
            lambda: self._train(prune_and_recover, self.folded(config), config, self.device),
        )

    def quantizable(self, config: CompressOptions) -> nn.Module:
        """The model whose weights are quantized: the pruned one, trained for it under ``qat``."""
        if config.quantization != "qat":
            return self.pruned(config)
        return self._once(
            _TRAINING,
            config,
            lambda: self._train(train_quantization_aware, self.pruned(config), config),
        )

    def _train(
        self,
        train: Callable[..., nn.Module],
        model: nn.Module,
        config: CompressOptions,
        *more: torch.device,
    ) -> nn.Module:
        """``model`` as ``train`` makes it under the eyes of the reference."""
        return train(
            model,
            self._reference(config),
            self.task,
            self.public,
            config,
            self.augment,
            self.seed,
            self.on_step,
            *more,
        )

    def export(self, format: str, path: Path, config: CompressOptions) -> None:
        """Write the form that these options ask for to ``path``.

        Raises:
            FedliteError: as :func:`fedlite.compress.exporting.export_file`, and :meth:`pruned`.
        """
        export_file(
            format,
            self.quantizable(config),
            self.task,
            path,
            config,
            self.calibration(config),
            quantized=True,
        )

    def calibration(self, config: CompressOptions) -> PublicData:
        """``calibration_size`` public examples (all, if there are fewer), drawn by the seed."""
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(self.public), generator=generator)[: config.calibration_size]
        return PublicData(self.public.inputs[order], self.public.labels[order])

    def _reference(self, config: CompressOptions) -> nn.Module:
        return self.teacher if config.recovery_from == "teacher" else self.student

    def _once(
        self, options: tuple[str, ...], config: CompressOptions, make: Callable[[], nn.Module]
    ) -> nn.Module:
        key = repr([(name, getattr(config, name)) for name in options])
        if key not in self._made:
            self._made[key] = make().eval()
        return self._made[key]


def training_steps(config: CompressOptions) -> int:
    """How many training steps a :class:`Shrinker` takes at most for these options."""
    steps = config.norm_steps if config.norms == "fold" else 0
    if config.ratio > 0 or any(config.layer_ratios.values()) or config.sparsity > 0:
        steps += config.recovery_steps
    return steps + (config.qat_steps if config.quantization == "qat" else 0)
