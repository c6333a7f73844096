"""Networks of a person's own, good and bad, for ``student=custom``."""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """The smallest student."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(int(torch.tensor(input_shape).prod()), num_classes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs)
        return logits


class WithBatchNorm(Linear):
    """A student whose layers mix the examples of a batch."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(input_shape, num_classes)
        self.layers.append(nn.BatchNorm1d(num_classes))


class WrongAnswer(Linear):
    """A student that answers one class too few."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(input_shape, num_classes - 1)
