"""Convolution, norm, activation."""

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


def build(
    dims: int,
    inputs: int,
    outputs: int,
    stride: int,
    *,
    kernel_size: int,
    expansion: int,
    norm_name: str | None,
    activation_name: str,
) -> nn.Module:
    """The block of a stage, after another of the same activation."""
    return Plain(
        dims,
        inputs,
        outputs,
        stride,
        kernel_size=kernel_size,
        norm_name=norm_name,
        activation_name=activation_name,
        after=activation_name,
    )
