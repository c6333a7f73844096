"""The student that is put together from stages: what ``fedlite search-student`` searches among."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from fedlite.models.blocks.plain import Plain
from fedlite.models.layers import global_pool, spatial_dims
from fedlite.models.options import BLOCKS
from fedlite.models.stacking import halving_strides, stack

STAGE_KEYS = {"block", "width", "depth", "kernel_size"}


class StagedNet(nn.Module):
    """A stem, stages of blocks, global average pooling and a linear head.

    The stem and each stage halve the size as long as the smallest side stays at 4 or more; without
    a stem the first stage sees the inputs. Inputs (n, C, H, W) or (n, C, L); answers logits
    (n, ``num_classes``).

    Args:
        input_shape: (C, H, W) or (C, L).
        num_classes: number of logits.
        stages: of each its ``block`` (a module of ``fedlite.models.blocks``), ``width``
            (channels; even for ``channel_shuffle``), ``depth`` (blocks) and ``kernel_size`` (odd).
        stem: channels of a 3-wide convolution before the stages; null: none.
        expansion: channels inside an inverted residual over channels between blocks.
        norm: ``weight`` (standardised weights, no norm at run time), ``group`` or null.
        activation: see :data:`fedlite.models.layers.ACTIVATIONS`.

    Raises:
        ValueError: a stage without blocks or with wrong keys or values, or an unknown name or
            shape.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        stages: Sequence[Mapping[str, Any]],
        stem: int | None = 16,
        expansion: int = 4,
        norm: str | None = "weight",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        dims = spatial_dims(input_shape)
        if not stages:
            raise ValueError("stages=[]: needs one or more")
        for index, stage in enumerate(stages):
            _check_stage(f"stages[{index}]", stage)
        unit = partial(Plain, norm_name=norm, activation_name=activation)
        width = input_shape[0]
        strides = halving_strides(min(input_shape[1:]), len(stages) + (stem is not None))
        self.stem: nn.Module = nn.Identity()
        if stem is not None:
            self.stem = unit(dims, width, stem, strides.pop(0), kernel_size=3)
            width = stem
        built = []
        for stage, stride in zip(stages, strides, strict=True):
            block = partial(
                BLOCKS.find(stage["block"]),
                dims,
                kernel_size=stage["kernel_size"],
                expansion=expansion,
                norm_name=norm,
                activation_name=activation,
            )
            built.append(
                nn.Sequential(*stack(block, width, [stage["width"]], [stage["depth"]], [stride]))
            )
            width = stage["width"]
        self.stages = nn.Sequential(*built)
        self.pool = global_pool(dims)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        x = self.pool(self.stages(self.stem(x)))
        return cast(Tensor, self.head(torch.flatten(x, 1)))


def _check_stage(where: str, stage: Mapping[str, Any]) -> None:
    if set(stage) != STAGE_KEYS:
        raise ValueError(f"{where}={dict(stage)}: needs exactly {', '.join(sorted(STAGE_KEYS))}")
    if problem := BLOCKS.problem(stage["block"]):
        raise ValueError(f"{where}.block={stage['block']}: {problem}")
    if min(stage["width"], stage["depth"]) < 1:
        raise ValueError(f"{where}={dict(stage)}: width and depth must be 1 or more")
    if stage["kernel_size"] % 2 != 1:
        raise ValueError(f"{where}.kernel_size={stage['kernel_size']}: must be odd")
