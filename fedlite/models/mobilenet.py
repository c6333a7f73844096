"""The mobile student: inverted residuals with depthwise separable convolutions and GroupNorm."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from fedlite.models.blocks.inverted_residual import InvertedResidual
from fedlite.models.blocks.plain import Plain
from fedlite.models.layers import global_pool, spatial_dims
from fedlite.models.stacking import halving_strides, stack


class MobileNet(nn.Module):
    """MobileNetV2 (Sandler et al. 2018) for small inputs, with GroupNorm instead of BatchNorm.

    Sizes are halved by the stem and by each stage but the first, as long as the smallest side
    stays at 4 or more. Inputs (n, C, H, W) or (n, C, L); answers logits (n, ``num_classes``).

    Args:
        input_shape: (C, H, W) or (C, L).
        num_classes: number of logits.
        channels: width of each stage, multiplied by ``width`` and rounded to 8.
        depths: blocks in each stage.
        width: the width multiplier.
        expansion: channels inside a block over channels between blocks.
        norm: ``group``, ``weight`` (standardised weights, no norm at run time) or null.
        activation: see :data:`fedlite.models.layers.ACTIVATIONS`.

    Raises:
        ValueError: ``channels`` and ``depths`` of unequal lengths, or an unknown name or shape.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        channels: Sequence[int] = (16, 24, 32, 48),
        depths: Sequence[int] = (1, 2, 2, 2),
        width: float = 1.0,
        expansion: int = 4,
        norm: str | None = "group",
        activation: str = "relu6",
    ) -> None:
        super().__init__()
        if len(channels) != len(depths):
            raise ValueError(f"channels={list(channels)}, depths={list(depths)}: unequal lengths")
        dims = spatial_dims(input_shape)
        widths = [max(8, round(c * width / 8) * 8) for c in channels]
        stem_stride, *strides = halving_strides(min(input_shape[1:]), len(widths))
        unit = partial(Plain, dims, norm_name=norm, activation_name=activation)
        block = partial(
            InvertedResidual,
            dims,
            kernel_size=3,
            expansion=expansion,
            norm_name=norm,
            activation_name=activation,
        )
        self.stem = unit(input_shape[0], widths[0], stem_stride, kernel_size=3)
        self.blocks = nn.Sequential(*stack(block, widths[0], widths, depths, [1, *strides]))
        self.neck = unit(widths[-1], 2 * widths[-1], 1, kernel_size=1)
        self.pool = global_pool(dims)
        self.head = nn.Linear(2 * widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        x = self.pool(self.neck(self.blocks(self.stem(x))))
        return cast(Tensor, self.head(torch.flatten(x, 1)))
