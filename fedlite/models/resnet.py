"""The residual teacher: a small ResNet with BatchNorm."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from fedlite.models.layers import activation as build_activation
from fedlite.models.layers import global_pool, spatial_dims
from fedlite.models.stacking import conv_unit, stack


class ResidualBlock(nn.Module):
    """Two 3-wide convolutions with a shortcut (He et al. 2016), projected where shapes differ."""

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        norm_name: str | None,
        activation_name: str,
    ) -> None:
        super().__init__()

        def unit(
            channels: int, kernel_size: int, stride: int, activation_name: str | None
        ) -> list[nn.Module]:
            return conv_unit(
                dims,
                channels,
                outputs,
                kernel_size,
                stride=stride,
                norm_name=norm_name,
                activation_name=activation_name,
            )

        self.body = nn.Sequential(
            *unit(inputs, 3, stride, activation_name), *unit(outputs, 3, 1, None)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(*unit(inputs, 1, stride, None))
        self.activation = build_activation(activation_name)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, ...) to (n, outputs, ...)."""
        return cast(Tensor, self.activation(self.body(x) + self.shortcut(x)))


class ResNet(nn.Module):
    """A stem, stages of residual blocks, global average pooling and a linear head.

    The stem halves sides of 20 and more, each stage but the first halves again. Inputs
    (n, C, H, W) or (n, C, L); answers logits (n, ``num_classes``).

    Args:
        input_shape: (C, H, W) or (C, L).
        num_classes: number of logits.
        channels: width of each stage.
        depths: blocks in each stage.
        norm: ``batch``, ``group`` or null.
        activation: see :data:`fedlite.models.layers.ACTIVATIONS`.
        dropout: probability, before the head.

    Raises:
        ValueError: ``channels`` and ``depths`` of unequal lengths, or an unknown name or shape.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        channels: Sequence[int] = (40, 80, 160),
        depths: Sequence[int] = (2, 2, 2),
        norm: str | None = "batch",
        activation: str = "relu",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if len(channels) != len(depths):
            raise ValueError(f"channels={list(channels)}, depths={list(depths)}: unequal lengths")
        dims = spatial_dims(input_shape)
        stem_stride = 2 if min(input_shape[1:]) >= 20 else 1
        stem = conv_unit(
            dims,
            input_shape[0],
            channels[0],
            3,
            stride=stem_stride,
            norm_name=norm,
            activation_name=activation,
        )
        block = partial(ResidualBlock, dims, norm_name=norm, activation_name=activation)
        strides = [1] + [2] * (len(channels) - 1)
        self.features = nn.Sequential(*stem, *stack(block, channels[0], channels, depths, strides))
        self.pool = global_pool(dims)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        x = self.dropout(torch.flatten(self.pool(self.features(x)), 1))
        return cast(Tensor, self.head(x))
