"""Layers by name and by the number of spatial dimensions: (C, H, W) has two, (C, L) one."""

import math
from functools import cache

import torch
from torch import nn

GROUPS = 4  # of every GroupNorm: channels pruned to any multiple of 4 still divide evenly

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
}


def spatial_dims(input_shape: tuple[int, ...]) -> int:
    """1 for (C, L), 2 for (C, H, W).

    Raises:
        ValueError: any other input shape.
    """
    if len(input_shape) not in (2, 3):
        raise ValueError(
            f"convolutions need inputs (C, H, W) or (C, L), not {tuple(input_shape)}; use mlp"
        )
    return len(input_shape) - 1


def conv(
    dims: int,
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """``Conv1d`` or ``Conv2d``."""
    cls = nn.Conv1d if dims == 1 else nn.Conv2d
    return cls(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=bias)


def max_pool(dims: int, size: int, stride: int) -> nn.Module:
    """``MaxPool1d`` or ``MaxPool2d``."""
    return (nn.MaxPool1d if dims == 1 else nn.MaxPool2d)(size, stride)


def global_pool(dims: int) -> nn.Module:
    """Average over all positions: (n, C, ...) to (n, C, 1) or (n, C, 1, 1)."""
    return nn.AdaptiveAvgPool1d(1) if dims == 1 else nn.AdaptiveAvgPool2d(1)


def group_norm(channels: int) -> nn.Module:
    """``GroupNorm`` with :data:`GROUPS` groups, fewer where they do not divide ``channels``."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def norm(name: str | None, dims: int, channels: int) -> nn.Module:
    """A normalisation by name: ``group``, ``batch`` (teachers only), or None for none.

    ``weight`` is no layer: it asks for :func:`fedlite.models.standardised.standardised_conv`.

    Raises:
        ValueError: an unknown name.
    """
    if name is None:
        return nn.Identity()
    if name == "group":
        return group_norm(channels)
    if name == "batch":
        return nn.BatchNorm1d(channels) if dims == 1 else nn.BatchNorm2d(channels)
    raise ValueError(
        f"norm={name}: must be group, weight (students only), batch (teachers only) or null"
    )


@cache
def activation_gain(name: str) -> float:
    """One over the standard deviation of the activation's outputs for standard normal inputs.

    Brock et al. 2021: with it, variances stay as they are through convolutions and activations.
    The integral is a sum over a fine grid.

    Raises:
        ValueError: an unknown name.
    """
    points = torch.linspace(-8, 8, 16_001, dtype=torch.float64)
    density = torch.exp(-points.square() / 2)
    density /= density.sum()
    outputs = activation(name)(points)
    mean = (density * outputs).sum()
    return float((density * (outputs - mean).square()).sum().rsqrt())


def activation(name: str) -> nn.Module:
    """A new activation module by name, never in place.

    Raises:
        ValueError: an unknown name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name}: must be one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def flat_size(features: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Number of values that ``features`` makes of one example of ``input_shape``."""
    with torch.no_grad():
        return int(features(torch.zeros(1, *input_shape)).numel())
