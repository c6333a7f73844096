"""The block of MobileNetV2 (Sandler et al. 2018)."""

from typing import cast

from torch import Tensor, nn

from fedlite.models.stacking import conv_unit


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


build = InvertedResidual
