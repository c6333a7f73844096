"""The mobile student: inverted residuals with depthwise separable convolutions and GroupNorm."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fedlite.models.layers import activation, conv, global_pool, group_norm, spatial_dims


class InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (3x3), project (1x1): Sandler et al. 2018, figure 4.

    The input is added to the output where both have the same shape.
    """

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        *,
        stride: int,
        expansion: int,
        activation_name: str,
    ) -> None:
        super().__init__()
        width = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            conv(dims, inputs, width, 1, bias=False),
            group_norm(width),
            activation(activation_name),
            conv(dims, width, width, 3, stride=stride, padding=1, groups=width, bias=False),
            group_norm(width),
            activation(activation_name),
            conv(dims, width, outputs, 1, bias=False),
            group_norm(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, ...) to (n, outputs, ...)."""
        y = cast(Tensor, self.body(x))
        return x + y if self.residual else y


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
        activation: str = "relu6",
    ) -> None:
        super().__init__()
        if len(channels) != len(depths):
            raise ValueError(f"channels={list(channels)}, depths={list(depths)}: unequal lengths")
        dims = spatial_dims(input_shape)
        widths = [max(8, round(c * width / 8) * 8) for c in channels]
        side = min(input_shape[1:])
        stem_stride, side = _stride(side)
        self.stem = _conv_norm(dims, input_shape[0], widths[0], 3, stem_stride, activation)
        blocks: list[nn.Module] = []
        inputs = widths[0]
        for stage, (outputs, depth) in enumerate(zip(widths, depths, strict=True)):
            for block in range(depth):
                stride = 1
                if stage > 0 and block == 0:
                    stride, side = _stride(side)
                blocks.append(
                    InvertedResidual(
                        dims,
                        inputs,
                        outputs,
                        stride=stride,
                        expansion=expansion,
                        activation_name=activation,
                    )
                )
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.neck = _conv_norm(dims, inputs, 2 * inputs, 1, 1, activation)
        self.pool = global_pool(dims)
        self.head = nn.Linear(2 * inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        x = self.pool(self.neck(self.blocks(self.stem(x))))
        return cast(Tensor, self.head(torch.flatten(x, 1)))


def _stride(side: int) -> tuple[int, int]:
    """Stride 2 where half of ``side`` is still 4 or more; and the side after it."""
    return (2, (side + 1) // 2) if side >= 7 else (1, side)


def _conv_norm(
    dims: int, inputs: int, outputs: int, kernel: int, stride: int, activation_name: str
) -> nn.Sequential:
    return nn.Sequential(
        conv(dims, inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        group_norm(outputs),
        activation(activation_name),
    )
