"""Self-attention relations (MiniLM: Wang et al. 2020 and 2021): how tokens of one input relate."""

import math
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from fedlite.base.errors import UsageError
from fedlite.distill.feature_loss import FeatureLoss
from fedlite.distill.loss import LooksInside
from fedlite.distill.options import LossOptions
from fedlite.distill.taps import Between, last_attention, placed
from fedlite.models.transformer import MultiHeadAttention

NAME, WEIGHT = "relations", 1.0
KINDS = ("queries", "keys", "values")  # modules of MultiHeadAttention


def relation_loss(student: Tensor, teacher: Tensor, *, heads: int) -> Tensor:
    """Divergence (n,) of the teacher's relations from the student's: mean over heads and tokens.

    Wang et al. 2020, *MiniLM*, equation 5, for any numbers of heads as in Wang et al. 2021,
    *MiniLMv2*, equation 6: vectors of tokens, cut into ``heads`` pieces each, are related by the
    softmax of their scaled products. All of it is within one example.

    Args:
        student, teacher: (n, tokens, width), each of its own width, which ``heads`` divides.
    """
    own, taught = (_log_relations(vectors, heads) for vectors in (student, teacher))
    divergence = F.kl_div(own, taught, reduction="none", log_target=True).sum(dim=3)
    return divergence.mean(dim=(1, 2))


def _log_relations(vectors: Tensor, heads: int) -> Tensor:
    """(n, tokens, width) to (n, heads, tokens, tokens)."""
    pieces = torch.unflatten(vectors, 2, (heads, vectors.shape[2] // heads)).transpose(1, 2)
    products = pieces @ pieces.transpose(2, 3) / math.sqrt(pieces.shape[3])
    return products.log_softmax(dim=3)


def build(options: LossOptions) -> LooksInside:
    """Soft labels and :func:`relation_loss` of queries, keys and values in the last attention."""

    def place(between: Between) -> FeatureLoss:
        given = (options.student_layer, options.teacher_layer)
        what = "fedlite.models.transformer.MultiHeadAttention"
        found = placed(between, given, last_attention, NAME, what)
        student, teacher = ([f"{name}.{kind}" for kind in KINDS] for name in found)
        own, taught = between.features(NAME, student, teacher)[0]
        attention = cast(MultiHeadAttention, between.student.get_submodule(found[0]))
        heads = own.shape[2] // attention.head_width
        if own.shape[1] != taught.shape[1] or taught.shape[2] % heads:
            raise UsageError(
                f"distill.loss={NAME}: the student relates {own.shape[1]} tokens by {heads} heads,"
                f" the teacher {taught.shape[1]} tokens of width {taught.shape[2]}; give both the"
                " same tokens (patch), and a width that the student's heads divide"
            )
        term = partial(relation_loss, heads=heads)
        return FeatureLoss.of(options, (student, teacher), term, WEIGHT)

    return LooksInside(place)
