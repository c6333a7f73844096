"""Blocks that networks are stacked from: plain, inverted residual, channel shuffle.

Every block takes (n, inputs, ...) to (n, outputs, ...) with one or two spatial dimensions; a
``stride`` of 2 halves them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from fedlite.models.layers import activation, conv, norm
from fedlite.models.standardised import standardised_conv

Build = Callable[[int, int, int], nn.Module]
"""(inputs, outputs, stride) -> a block."""


def conv_unit(
    dims: int,
    inputs: int,
    outputs: int,
    kernel_size: int,
    *,
    norm_name: str | None,
    activation_name: str | None,
    stride: int = 1,
    groups: int = 1,
    after: str | None = None,
) -> list[nn.Module]:
    """Convolution, norm and activation, padded so that stride 1 keeps the size.

    Args:
        norm_name: ``group``, ``batch``, ``weight`` (a standardised convolution) or None. A norm
            makes the bias of the convolution redundant, so there is none.
        activation_name: None for a linear unit.
        after: the activation that the inputs come from; sets the scale of standardised weights.
    """
    standardised = norm_name == "weight"
    build = (
        partial(standardised_conv, after=after)
        if standardised
        else partial(conv, bias=norm_name is None)
    )
    layers = [
        build(
            dims,
            inputs,
            outputs,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
        ),
        norm(None if standardised else norm_name, dims, outputs),
    ]
    if activation_name is not None:
        layers.append(activation(activation_name))
    return layers


class Plain(nn.Sequential):
    """Convolution, norm, activation."""

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        kernel_size: int,
        norm_name: str | None,
        activation_name: str,
        after: str | None = None,
    ) -> None:
        super().__init__(
            *conv_unit(
                dims,
                inputs,
                outputs,
                kernel_size,
                stride=stride,
                norm_name=norm_name,
                activation_name=activation_name,
                after=after,
            )
        )


class InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (k x k), project (1x1): Sandler et al. 2018, figure 4.

    The input is added to the output where both have the same shape.
    """

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        kernel_size: int,
        expansion: int,
        norm_name: str | None,
        activation_name: str,
    ) -> None:
        super().__init__()
        width = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            *conv_unit(
                dims, inputs, width, 1, norm_name=norm_name, activation_name=activation_name
            ),
            *conv_unit(
                dims,
                width,
                width,
                kernel_size,
                stride=stride,
                groups=width,
                norm_name=norm_name,
                activation_name=activation_name,
                after=activation_name,
            ),
            *conv_unit(
                dims,
                width,
                outputs,
                1,
                norm_name=norm_name,
                activation_name=None,
                after=activation_name,
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, ...) to (n, outputs, ...)."""
        y = cast(Tensor, self.body(x))
        return x + y if self.residual else y


class ChannelShuffle(nn.Module):
    """The unit of ShuffleNetV2 (Ma et al. 2018, figure 3c and d).

    Where the shape stays, half of the channels pass unchanged and the other half goes through
    1x1, depthwise k x k and 1x1; else both branches see all channels, and the first is depthwise
    k x k and 1x1. The two halves are then interleaved.

    Raises:
        ValueError: an odd number of channels.
    """

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        kernel_size: int,
        norm_name: str | None,
        activation_name: str,
    ) -> None:
        super().__init__()
        if outputs % 2:
            raise ValueError(f"channel_shuffle of width {outputs}: must be even")
        self.split = stride == 1 and inputs == outputs
        half = outputs // 2
        seen = half if self.split else inputs

        def pointwise(channels: int, after: str | None) -> list[nn.Module]:
            return conv_unit(
                dims,
                channels,
                half,
                1,
                norm_name=norm_name,
                activation_name=activation_name,
                after=after,
            )

        def depthwise(channels: int, after: str) -> list[nn.Module]:
            return conv_unit(
                dims,
                channels,
                channels,
                kernel_size,
                stride=stride,
                groups=channels,
                norm_name=norm_name,
                activation_name=None,
                after=after,
            )

        self.shortcut: nn.Module = nn.Identity()
        if not self.split:
            self.shortcut = nn.Sequential(
                *depthwise(inputs, activation_name), *pointwise(inputs, None)
            )
        self.body = nn.Sequential(
            *pointwise(seen, activation_name),
            *depthwise(half, activation_name),
            *pointwise(half, None),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, ...) to (n, outputs, ...)."""
        kept, filtered = x.chunk(2, dim=1) if self.split else (x, x)
        halves = torch.stack([self.shortcut(kept), self.body(filtered)], dim=2)
        return halves.flatten(1, 2)


def stack(
    build: Build,
    inputs: int,
    widths: Sequence[int],
    depths: Sequence[int],
    strides: Sequence[int],
) -> list[nn.Module]:
    """Stages of equal blocks; the first block of each has its stride and changes the width.

    ``inputs`` are the channels before the first stage; the sequences have one value per stage.
    """
    blocks = []
    for outputs, depth, stride in zip(widths, depths, strides, strict=True):
        for index in range(depth):
            blocks.append(build(inputs, outputs, stride if index == 0 else 1))
            inputs = outputs
    return blocks


def halving_strides(side: int, stages: int) -> list[int]:
    """One stride per stage: 2 as long as half of the smallest ``side`` is still 4 or more."""
    strides = []
    for _ in range(stages):
        halved = side >= 7
        strides.append(2 if halved else 1)
        side = (side + 1) // 2 if halved else side
    return strides
