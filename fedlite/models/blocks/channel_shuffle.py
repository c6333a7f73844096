"""The unit of ShuffleNetV2 (Ma et al. 2018)."""

from typing import Any

import torch
from torch import Tensor, nn

from fedlite.models.stacking import conv_unit


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


def build(*place: int, expansion: int, **options: Any) -> nn.Module:
    """The unit, whose channels are never expanded."""
    return ChannelShuffle(*place, **options)
