"""The transformer student: a small ViT for images and series, built so that DP-SGD can train it."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from fedlite.models.layers import activation as build_activation
from fedlite.models.layers import conv, spatial_dims


class MultiHeadAttention(nn.Module):
    """Self-attention of Vaswani et al. 2017 from four plain linear layers.

    ``torch.nn.MultiheadAttention`` keeps one packed weight, which has neither per-example
    gradients in Opacus nor single heads to prune. Here head i owns the outputs
    ``[i * head_width, (i + 1) * head_width)`` of query, key and value and the same inputs of
    ``project``; the number of heads is read off the layers, so whole heads can be cut out.
    ``queries``, ``keys`` and ``values`` hold what the three layers answer, for losses to tap.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)
        self.queries, self.keys, self.values = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) to the same shape."""
        scale = 1 / math.sqrt(self.head_width)
        queries, keys = self.queries(self.query(x)), self.keys(self.key(x))
        values = self.values(self.value(x))
        scores = self._by_head(queries * scale) @ self._by_head(keys).transpose(2, 3)
        attended = torch.softmax(scores, dim=-1) @ self._by_head(values)
        return cast(Tensor, self.project(attended.transpose(1, 2).flatten(2)))

    def _by_head(self, x: Tensor) -> Tensor:
        """(n, tokens, heads * head_width) to (n, heads, tokens, head_width); n may be 0."""
        heads = x.shape[2] // self.head_width
        return torch.unflatten(x, 2, (heads, self.head_width)).transpose(1, 2)


class Block(nn.Module):
    """Attention, then a hidden layer at every token; each behind its LayerNorm, added to its input.

    The pre-norm block of Xiong et al. 2020 (*On layer normalization in the transformer
    architecture*).
    """

    def __init__(self, width: int, heads: int, hidden: int, activation_name: str) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads)
        self.hidden_norm = nn.LayerNorm(width)
        self.hidden = nn.Sequential(
            nn.Linear(width, hidden), build_activation(activation_name), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + cast(Tensor, self.hidden(self.hidden_norm(x)))


class Transformer(nn.Module):
    """Patches as tokens, learned positions, pre-norm blocks, the mean over tokens, a linear head.

    Dosovitskiy et al. 2021 (*An image is worth 16x16 words*) with the mean in place of a class
    token. Positions are an embedding that is asked once per example, so that Opacus sees each
    example's own gradient. Rows and columns that fill no patch are left out. With the defaults
    and a 28x28 image: 49 tokens, 41,674 parameters. Inputs (n, C, H, W) or (n, C, L); answers
    logits (n, ``num_classes``).

    Args:
        input_shape: (C, H, W) or (C, L).
        num_classes: number of logits.
        patch: side of a patch (C, patch, patch) or length of a piece (C, patch); null: the
            smallest side over 7 for images, over 16 for series, and at least 2.
        width: of every token; a multiple of ``heads``.
        depth: number of blocks.
        heads: of every attention.
        expansion: width of a block's hidden layer over ``width``.
        activation: of the hidden layers; see :data:`fedlite.models.layers.ACTIVATIONS`.

    Raises:
        ValueError: a width that ``heads`` does not divide, a patch larger than the input, or an
            unknown name or input shape.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        patch: int | None = None,
        width: int = 48,
        depth: int = 2,
        heads: int = 4,
        expansion: int = 2,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        dims, side = spatial_dims(input_shape), min(input_shape[1:])
        if heads < 1 or width % heads:
            raise ValueError(f"width={width}, heads={heads}: the width must be a multiple of heads")
        patch = max(2, side // (7 if dims == 2 else 16)) if patch is None else patch
        if not 1 <= patch <= side:
            raise ValueError(f"patch={patch}: must be from 1 to {side}, the input's smallest side")
        tokens = math.prod(size // patch for size in input_shape[1:])
        self.embed = conv(dims, input_shape[0], width, patch, stride=patch)
        self.position = nn.Embedding(tokens, width)
        nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = nn.Sequential(
            *(Block(width, heads, expansion * width, activation) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, num_classes)."""
        x = self.embed(x).flatten(2).transpose(1, 2)
        places = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
        x = self.blocks(x + self.position(places))
        return cast(Tensor, self.head(self.norm(x).mean(dim=1)))
