"""Students and teachers for texts: a bag of words, convolutions over words, a transformer."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from fedlite.models.layers import activation as build_activation
from fedlite.models.transformer import Block
from fedlite.serve.tokens import PAD


class Words(nn.Module):
    """A table of vectors, one for each token; (n, length) numbers to (n, length, width).

    What fills up a short text is zero, and learns nothing; nor does a table that is ``frozen``,
    which is as public as the student that it begins with.
    """

    def __init__(self, vocabulary: int, width: int, frozen: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.table.weight.requires_grad_(not frozen)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length, width)."""
        return cast(Tensor, self.table(tokens)) * _real(tokens)


class TextBag(nn.Module):
    """The mean of a text's vectors, hidden layers, a linear head (Joulin et al. 2017, *Bag of
    tricks for efficient text classification*).

    Inputs (n, length) numbers of tokens, :data:`~fedlite.serve.tokens.PAD` where a text has ended;
    answers logits (n, ``num_classes``).

    Args:
        input_shape: (length,).
        num_classes: number of logits.
        vocabulary: number of tokens.
        width: of a token's vector.
        hidden: widths of the hidden layers; empty for none.
        activation: see :data:`fedlite.models.layers.ACTIVATIONS`.
        freeze_words: whether the table of vectors stays as it begins.

    Raises:
        ValueError: another input shape, or an unknown activation.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        vocabulary: int,
        width: int = 16,
        hidden: Sequence[int] = (32,),
        activation: str = "tanh",
        freeze_words: bool = False,
    ) -> None:
        super().__init__()
        _check(input_shape)
        self.words = Words(vocabulary, width, freeze_words)
        widths = [width, *hidden]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), build_activation(activation)]
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        return cast(Tensor, self.head(self.hidden(_mean(self.words(tokens), tokens))))


class TextCNN(nn.Module):
    """Convolutions of several widths over a text's vectors, the largest answer of each, a linear
    head (Kim 2014, *Convolutional neural networks for sentence classification*).

    Inputs and answers as of :class:`TextBag`.

    Args:
        input_shape: (length,).
        num_classes: number of logits.
        vocabulary: number of tokens.
        width: of a token's vector.
        kernel_sizes: tokens that a convolution sees at once; odd, so that texts keep their length.
        channels: of each convolution.
        activation: see :data:`fedlite.models.layers.ACTIVATIONS`.
        dropout: of what the head sees.
        freeze_words: whether the table of vectors stays as it begins.

    Raises:
        ValueError: another input shape, an even kernel size, or an unknown activation.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        vocabulary: int,
        width: int = 16,
        kernel_sizes: Sequence[int] = (3, 5),
        channels: int = 24,
        activation: str = "tanh",
        dropout: float = 0.0,
        freeze_words: bool = False,
    ) -> None:
        super().__init__()
        _check(input_shape)
        if any(size % 2 == 0 for size in kernel_sizes):
            raise ValueError(f"kernel_sizes={list(kernel_sizes)}: must be odd")
        self.words = Words(vocabulary, width, freeze_words)
        self.convs = nn.ModuleList(
            nn.Conv1d(width, channels, size, padding=size // 2) for size in kernel_sizes
        )
        self.activation = build_activation(activation)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels * len(kernel_sizes), num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        words = self.words(tokens).transpose(1, 2)
        seen = [self.activation(conv(words)).amax(dim=2) for conv in self.convs]
        return cast(Tensor, self.head(self.dropout(torch.cat(seen, dim=1))))


class TextTransformer(nn.Module):
    """A text's vectors and learned positions, pre-norm blocks, the mean over its tokens, a linear
    head: :class:`fedlite.models.transformer.Transformer` for texts.

    Inputs and answers as of :class:`TextBag`.

    Args:
        input_shape: (length,).
        num_classes: number of logits.
        vocabulary: number of tokens.
        width: of every token; a multiple of ``heads``.
        depth: number of blocks.
        heads: of every attention.
        expansion: width of a block's hidden layer over ``width``.
        activation: see :data:`fedlite.models.layers.ACTIVATIONS`.
        dropout: of the vectors, and of what the head sees.
        freeze_words: whether the table of vectors stays as it begins.

    Raises:
        ValueError: another input shape, a width that ``heads`` does not divide, or an unknown
            activation.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        vocabulary: int,
        width: int = 48,
        depth: int = 2,
        heads: int = 4,
        expansion: int = 2,
        activation: str = "relu",
        dropout: float = 0.0,
        freeze_words: bool = False,
    ) -> None:
        super().__init__()
        _check(input_shape)
        if heads < 1 or width % heads:
            raise ValueError(f"width={width}, heads={heads}: the width must be a multiple of heads")
        self.words = Words(vocabulary, width, freeze_words)
        self.position = nn.Embedding(input_shape[0], width)
        nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = nn.Sequential(
            *(Block(width, heads, expansion * width, activation) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        places = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[0], -1)
        seen = self.norm(self.blocks(self.dropout(self.words(tokens) + self.position(places))))
        return cast(Tensor, self.head(self.dropout(_mean(seen, tokens))))


def _check(input_shape: tuple[int, ...]) -> None:
    if len(input_shape) != 1:
        raise ValueError(f"texts are inputs (length,), not {tuple(input_shape)}")


def _real(tokens: Tensor) -> Tensor:
    """(n, length, 1): 1 where a text has a token, 0 where it has ended."""
    return (tokens != PAD).to(torch.float32).unsqueeze(2)


def _mean(vectors: Tensor, tokens: Tensor) -> Tensor:
    """The mean (n, width) of the vectors (n, length, width) of real tokens; zero of no token."""
    real = _real(tokens)
    return (vectors * real).sum(dim=1) / real.sum(dim=1).clamp(min=1.0)
