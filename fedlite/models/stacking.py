"""Convolution units, and stages of equal blocks."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

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
