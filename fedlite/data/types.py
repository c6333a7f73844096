"""Public and private data are different types: a signature shows what can leak."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fedlite.base.records import Metric


@dataclass(frozen=True)
class Normalise:
    """``(raw / scale - mean) / std``: what is done to numbers before a model sees them.

    ``mean`` and ``std`` hold one value per leading dimension of the input shape and come from
    public data only. ``scale`` is what raw inputs are divided by before (255 for 8-bit images).

    >>> normalise = Normalise(scale=255.0, mean=(0.5,), std=(0.25,))
    >>> normalise(torch.tensor([[0, 255]], dtype=torch.uint8))
    tensor([[-2.,  2.]])
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: Literal["normalise"] = "normalise"

    def __call__(self, raw: Tensor) -> Tensor:
        """Raw inputs (n, ...) of any dtype to normalised float32 of the same shape."""
        shape = (1, -1) + (1,) * (raw.ndim - 2)
        mean = torch.tensor(self.mean, dtype=torch.float32).reshape(shape)
        std = torch.tensor(self.std, dtype=torch.float32).reshape(shape)
        return (raw.to(torch.float32) / self.scale - mean) / std

    def undo(self, inputs: Tensor) -> Tensor:
        """Normalised inputs (n, ...) to raw ones, in float64."""
        shape = (1, -1) + (1,) * (inputs.ndim - 2)
        mean = torch.tensor(self.mean, dtype=torch.float64).reshape(shape)
        std = torch.tensor(self.std, dtype=torch.float64).reshape(shape)
        return (inputs.double() * std + mean) * self.scale

    def blank(self, shape: tuple[int, ...]) -> Tensor:
        """Inputs of no content, of this shape."""
        return torch.zeros(shape)

    def random(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Random inputs of this shape, spread as normalised ones are."""
        return torch.randn(shape, generator=generator)

    def describe(self) -> dict[str, Any]:
        """What a bundle's ``preprocessing.json`` says, beside the input shape."""
        return {
            "layout": "channels_first",
            "formula": "(raw / scale - mean) / std, per leading dimension of input_shape",
            "scale": self.scale,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @property
    def words(self) -> str:
        """In a few words, for the model card."""
        return f"raw values divided by {self.scale:g} before mean and std"


Preprocessing = Normalise
"""The kinds of preprocessing; each says what it is by its ``kind``."""


@dataclass(frozen=True)
class Task:
    """What the model sees and answers.

    ``input_shape`` is (C, H, W), (C, L) or (F,); ``preprocessing`` makes a model's inputs of raw
    ones. ``columns`` names the features of a table; empty for other inputs.
    """

    name: str
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    metric: Metric
    example: str
    columns: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def prepare(self, raw: Tensor) -> Tensor:
        """Raw inputs (n, *input_shape) as the model sees them."""
        return self.preprocessing(raw)

    def blank(self, count: int) -> Tensor:
        """``count`` equal inputs of no content, as the model sees them."""
        return self.preprocessing.blank((count, *self.input_shape))

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` random inputs, as the model sees them."""
        return self.preprocessing.random((count, *self.input_shape), generator)


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
