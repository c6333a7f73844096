"""Public and private data are different types: a signature shows what can leak."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """What the model sees and answers.

    ``input_shape`` is (C, H, W), (C, L) or (F,). ``mean`` and ``std`` hold one value per leading
    dimension of ``input_shape`` and come from public data only. ``scale`` is what raw inputs are
    divided by before ``mean`` and ``std`` apply (255 for 8-bit images).
    """

    name: str
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    metric: str
    example: str

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def blank(self, count: int) -> Tensor:
        """``count`` equal inputs of no content (count, *input_shape)."""
        return torch.zeros(count, *self.input_shape)

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` random inputs (count, *input_shape)."""
        return torch.randn((count, *self.input_shape), generator=generator)

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw inputs (n, *input_shape) of any dtype to normalised float32 of the same shape."""
        shape = (1, -1) + (1,) * (len(self.input_shape) - 1)
        mean = torch.tensor(self.mean, dtype=torch.float32).reshape(shape)
        std = torch.tensor(self.std, dtype=torch.float32).reshape(shape)
        return (raw.to(torch.float32) / self.scale - mean) / std


@dataclass(frozen=True)
class PublicData:
    """Data that anyone may see. ``inputs`` (n, *input_shape) normalised; ``labels`` (n,) int64."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ClientData:
    """One client's private data, same layout as :class:`PublicData`; never leaves the client."""

    client_id: int
    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TestData:
    """The server's test part, same layout; it measures and selects nothing."""

    __test__ = False  # not a pytest class

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)
