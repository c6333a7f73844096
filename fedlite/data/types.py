"""Public and private data are different types: a signature shows what can leak."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fedlite.base.records import Metric
from fedlite.serve.logmel import LogMel
from fedlite.serve.tokens import PAD, TOKENIZER, UNKNOWN


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
        """Raw inputs (n, ...) of any dtype to normalised float32 of the same shape, laid out in
        torch's own order however they were stored: networks may take a ``view`` of them, and of
        what a convolution makes of them."""
        shape = (1, -1) + (1,) * (raw.ndim - 2)
        mean = torch.tensor(self.mean, dtype=torch.float32).reshape(shape)
        std = torch.tensor(self.std, dtype=torch.float32).reshape(shape)
        inputs = raw.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        return inputs.div_(self.scale).sub_(mean).div_(std)

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


@dataclass(frozen=True)
class Tokens:
    """Texts as numbers of tokens; the tokenizer was learnt from public texts alone.

    ``tokenizer`` is the JSON that the bundle ships (:func:`fedlite.serve.tokens.encode`), and
    ``vocabulary`` the number of its tokens. Raw inputs are numbers already: a source's texts are
    encoded once, when they are split.
    """

    tokenizer: str
    vocabulary: int
    kind: Literal["tokens"] = "tokens"

    def __call__(self, raw: Tensor) -> Tensor:
        """Numbers of tokens (n, length) as int64."""
        return raw.to(torch.int64, copy=True)

    def undo(self, inputs: Tensor) -> Tensor:
        """As they are, in float64."""
        return inputs.double()

    def blank(self, shape: tuple[int, ...]) -> Tensor:
        """Empty texts."""
        return torch.full(shape, PAD)

    def random(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Texts of random tokens."""
        return torch.randint(self.vocabulary, shape, generator=generator)

    def describe(self) -> dict[str, Any]:
        """What a bundle's ``preprocessing.json`` says, beside the input shape."""
        return {
            "kind": self.kind,
            "tokenizer": TOKENIZER,
            "vocabulary": self.vocabulary,
            "formula": "numbers of tokens, cut at the length of input_shape, filled up with"
            f" {PAD}; what the tokenizer does not know is {UNKNOWN}",
        }

    @property
    def words(self) -> str:
        """In a few words, for the model card."""
        return f"numbers of tokens, by `{TOKENIZER}`"


Preprocessing = Normalise | Tokens
"""The kinds of preprocessing; each says what it is by its ``kind``."""


@dataclass(frozen=True)
class Task:
    """What the model sees and answers.

    ``input_shape`` is (C, H, W), (C, L), (F,), or (length,) of a text; ``preprocessing`` makes a
    model's inputs of raw ones. ``columns`` names the features of a table, or where texts were;
    empty for other inputs. ``sound`` is what made raw inputs of recordings; None for other inputs.
    """

    name: str
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    metric: Metric
    example: str
    columns: tuple[str, ...] = ()
    sound: LogMel | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def vocabulary(self) -> int | None:
        """Number of tokens; None of what is no text."""
        return getattr(self.preprocessing, "vocabulary", None)

    @property
    def standardisation(self) -> Normalise | None:
        """How numbers are scaled; None of texts."""
        return self.preprocessing if isinstance(self.preprocessing, Normalise) else None

    @property
    def input_type(self) -> str:
        """Of the values that a model takes: float32, or int64 of numbers of tokens."""
        return str(self.blank(1).dtype).removeprefix("torch.")

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
