"""The multi-layer perceptron: for inputs of any shape."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from fedlite.models.layers import activation as build_activation


class MLP(nn.Module):
    """Flattened inputs, ``hidden`` layers with an activation each, and a linear head.

    Args:
        input_shape: any.
        num_classes: number of logits.
        hidden: widths of the hidden layers; empty for a linear model.
        activation: see :data:`fedlite.models.layers.ACTIVATIONS`.
        dropout: share of each hidden layer that training leaves out.

    Raises:
        ValueError: an unknown activation.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        hidden: Sequence[int] = (64, 32),
        activation: str = "tanh",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [prod(input_shape), *hidden]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), build_activation(activation)]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        logits: Tensor = self.head(self.hidden(torch.flatten(x, 1)))
        return logits
