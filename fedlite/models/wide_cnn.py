"""The default teacher: a wide convolutional network with BatchNorm and dropout."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fedlite.models.layers import activation as build_activation
from fedlite.models.layers import conv, flat_size, max_pool, spatial_dims
from fedlite.models.layers import norm as build_norm


class WideCNN(nn.Module):
    """Blocks of 3-wide convolution, norm, activation and pooling, then a hidden layer and the head.

    A block halves the size while the smallest side is 4 or more. Inputs (n, C, H, W) or (n, C, L);
    answers logits (n, ``num_classes``).

    Args:
        input_shape: (C, H, W) or (C, L).
        num_classes: number of logits.
        channels: outputs of each block.
        hidden: width of the hidden layer.
        norm: ``batch``, ``group`` or null.
        activation: see :data:`fedlite.models.layers.ACTIVATIONS`.
        dropout: probability, before the hidden layer and before the head.

    Raises:
        ValueError: an unknown name or input shape.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        channels: Sequence[int] = (32, 64, 128),
        hidden: int = 256,
        norm: str | None = "batch",
        activation: str = "relu",
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        dims = spatial_dims(input_shape)
        layers: list[nn.Module] = []
        inputs, side = input_shape[0], min(input_shape[1:])
        for outputs in channels:
            layers += [
                conv(dims, inputs, outputs, 3, padding=1, bias=norm is None),
                build_norm(norm, dims, outputs),
                build_activation(activation),
            ]
            if side >= 4:
                layers.append(max_pool(dims, 2, 2))
                side //= 2
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(flat_size(self.features.eval(), input_shape), hidden),
            build_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        return cast(Tensor, self.classifier(torch.flatten(self.features(x), 1)))
