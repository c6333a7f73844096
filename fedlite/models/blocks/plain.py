"""Convolution, norm, activation."""

from typing import Any

from torch import nn

from fedlite.models.stacking import conv_unit


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


def build(*place: int, expansion: int, activation_name: str, **options: Any) -> nn.Module:
    """One convolution, after a block of the same activation; its channels are never expanded."""
    return Plain(*place, activation_name=activation_name, after=activation_name, **options)
