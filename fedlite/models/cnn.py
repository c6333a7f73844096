"""The small convolutional student: tanh blocks in the shape that suits DP-SGD."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedlite.models.layers import activation, conv, flat_size, max_pool, norm, spatial_dims
from fedlite.models.standardised import standardised_conv


class Geometry(NamedTuple):
    """Sizes of one block: its convolution and the max pooling after it (``pool`` 0: none)."""

    kernel: int
    stride: int
    padding: int
    pool: int
    pool_stride: int


def default_geometry(input_shape: tuple[int, ...], blocks: int) -> list[Geometry]:
    """The rule used where ``kernel_sizes`` is null, by the smallest spatial side.

    - under 20 (8x8 digits): 3-wide convolutions that keep the size, each halved by pooling;
    - 20 to 47 (28x28, 32x32): the DP-SGD network of Papernot et al. 2021: 8-wide with stride 2
      and padding 2, then 4-wide with stride 2; pooling of 2 with stride 1;
    - 48 and more (128 samples of a series): the same, with pooling of stride 2.
    """
    side = min(input_shape[1:])
    if side < 20:
        return [Geometry(3, 1, 1, 2, 2)] * blocks
    pool_stride = 1 if side < 48 else 2
    first, rest = Geometry(8, 2, 2, 2, pool_stride), Geometry(4, 2, 0, 2, pool_stride)
    return [first] + [rest] * (blocks - 1)


class CNN(nn.Module):
    """Blocks of convolution, norm, activation and max pooling, then one hidden layer and the head.

    With the defaults and a 28x28 image it is the 26,010-parameter network of Papernot et al. 2021
    (*Tempered sigmoid activations for deep learning with differential privacy*), which Tramer and
    Boneh 2021 use too. Inputs (n, C, H, W) or (n, C, L); answers logits (n, ``num_classes``).

    Args:
        input_shape: (C, H, W) or (C, L).
        num_classes: number of logits.
        channels: outputs of each block's convolution.
        kernel_sizes: one per block; null takes all sizes from :func:`default_geometry`.
        strides: of the convolutions (default 1).
        paddings: of the convolutions (default half the kernel).
        pools: window of each block's max pooling, 0 for none (default 2).
        pool_strides: (default: the window).
        hidden: width of the hidden layer.
        activation: see :data:`fedlite.models.layers.ACTIVATIONS`.
        norm: null, ``group`` or ``weight`` (standardised weights, no norm at run time).

    Raises:
        ValueError: lists of unequal lengths, or an unknown name or input shape.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        channels: Sequence[int] = (16, 32),
        kernel_sizes: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        paddings: Sequence[int] | None = None,
        pools: Sequence[int] | None = None,
        pool_strides: Sequence[int] | None = None,
        hidden: int = 32,
        activation: str = "tanh",
        norm: str | None = None,
    ) -> None:
        super().__init__()
        dims, blocks = spatial_dims(input_shape), len(channels)
        if kernel_sizes is None:
            if any(sizes is not None for sizes in (strides, paddings, pools, pool_strides)):
                raise ValueError("strides, paddings and pools need kernel_sizes")
            geometry = default_geometry(input_shape, blocks)
        else:
            pools = pools or [2] * blocks
            columns = {
                "kernel_sizes": kernel_sizes,
                "strides": strides or [1] * blocks,
                "paddings": paddings or [kernel // 2 for kernel in kernel_sizes],
                "pools": pools,
                "pool_strides": pool_strides or pools,
            }
            for name, column in columns.items():
                if len(column) != blocks:
                    raise ValueError(f"{name}={list(column)}: needs one value per block, {blocks}")
            geometry = [Geometry(*row) for row in zip(*columns.values(), strict=True)]
        self.features = _features(dims, [input_shape[0], *channels], geometry, activation, norm)
        self.classifier = _classifier(
            flat_size(self.features, input_shape), hidden, num_classes, activation
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


def _features(
    dims: int,
    channels: Sequence[int],
    geometry: list[Geometry],
    activation_name: str,
    norm_name: str | None,
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for (inputs, outputs), g in zip(pairwise(channels), geometry, strict=True):
        build: Callable[..., nn.Module] = conv
        if norm_name == "weight":
            build = partial(standardised_conv, after=activation_name if layers else None)
        layers.append(build(dims, inputs, outputs, g.kernel, stride=g.stride, padding=g.padding))
        if norm_name not in (None, "weight"):
            layers.append(norm(norm_name, dims, outputs))
        layers.append(activation(activation_name))
        if g.pool:
            layers.append(max_pool(dims, g.pool, g.pool_stride))
    return nn.Sequential(*layers)


def _classifier(inputs: int, hidden: int, num_classes: int, activation_name: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), activation(activation_name), nn.Linear(hidden, num_classes)
    )
