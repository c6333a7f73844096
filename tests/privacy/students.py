"""Students of one's own: small networks, each with one habit that DP-SGD cannot bear, or can.

All take inputs (n, 2, 6) and answer logits (n, 10).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from opacus.layers import DPGRU, DPLSTM, DPRNN, DPMultiheadAttention
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

SHAPE, CLASSES = (2, 6), 10


class Student(nn.Module):
    """The frame of the others: ``middle`` answers (n, 12), a head the logits."""

    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.build()
        self.head = nn.Linear(12, num_classes)

    def build(self) -> None:
        self.first = nn.Linear(12, 12)

    def middle(self, x: Tensor) -> Tensor:
        return self.first(x.flatten(1)).tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(x))


def tokens(x: Tensor) -> Tensor:
    """Inputs as numbers of tokens 0 to 4: (n, 12)."""
    return (x.flatten(1) * 2).round().long().clamp(-2, 2) + 2


class Embedded(Student):
    """Tokens; the rest of the embedding's options is another student's."""

    def table(self) -> nn.Module:
        return nn.Embedding(5, 12)

    def build(self) -> None:
        self.first = self.table()

    def middle(self, x: Tensor) -> Tensor:
        return self.first(tokens(x)).mean(dim=1).tanh()


# --- parameters that hooks do not find --------------------------------------------------------


class BroadcastPositions(Student):
    """A table of positions looked up once for the whole batch."""

    def build(self) -> None:
        self.positions = nn.Embedding(6, 2)
        super().build()

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x + self.positions(torch.arange(6)).T)


class TableOfOwn(Student):
    """A module without inputs answers the table."""

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(2, 6))

        def forward(self) -> Tensor:
            return self.table

    def build(self) -> None:
        self.positions = self.Table()
        super().build()

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x + self.positions())


class Recurrent(Student):
    """A recurrent layer by its class; the last of its answers counts."""

    layer: Callable[..., nn.Module] = nn.GRU

    def build(self) -> None:
        self.first = self.layer(2, 12, batch_first=True)

    def middle(self, x: Tensor) -> Tensor:
        answers, _ = self.first(x.transpose(1, 2))
        return answers[:, -1]


class Long(Recurrent):
    layer = nn.LSTM


class Plain(Recurrent):
    layer = nn.RNN


class PrivateGRU(Recurrent):
    layer = DPGRU


class PrivateLSTM(Recurrent):
    layer = DPLSTM


class PrivateRNN(Recurrent):
    layer = DPRNN


class PrivateLSTMBothWays(Recurrent):
    def build(self) -> None:
        self.first = DPLSTM(2, 6, num_layers=2, bidirectional=True, batch_first=True)


class LSTMSequenceFirst(Recurrent):
    """Opacus' own layer, with time in dimension 0."""

    def build(self) -> None:
        self.first = DPLSTM(2, 12)

    def middle(self, x: Tensor) -> Tensor:
        answers, _ = self.first(x.permute(2, 0, 1))
        return answers[-1]


class Attentive(Student):
    layer: Callable[..., nn.Module] = nn.MultiheadAttention

    def build(self) -> None:
        self.first = self.layer(6, 2, batch_first=True)

    def middle(self, x: Tensor) -> Tensor:
        answers, _ = self.first(x, x, x)
        return answers.flatten(1)


class PrivateAttention(Attentive):
    layer = DPMultiheadAttention


class Encoder(Student):
    def build(self) -> None:
        self.first = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)

    def middle(self, x: Tensor) -> Tensor:
        return self.first(x).flatten(1)


class Unused(Student):
    def build(self) -> None:
        super().build()
        self.second = nn.Linear(3, 3)


class Detached(Student):
    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x).detach()


class SpectralNormed(Student):
    def build(self) -> None:
        self.first = spectral_norm(nn.Linear(12, 12))


class WeightNormed(Student):
    def build(self) -> None:
        self.first = weight_norm(nn.Linear(12, 12))


class WeightNormedWithoutBias(Student):
    def build(self) -> None:
        self.first = weight_norm(nn.Linear(12, 12, bias=False))


class Noisy(Student):
    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        return hidden + torch.randn_like(hidden) / 10 if self.training else hidden


class SkipsByBatch(Student):
    """Stochastic depth: one coin for the whole batch."""

    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        return hidden * 2 if self.training and torch.rand(1) < 0.5 else hidden


class NamesOfOpacus(Student):
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(12, 12)
            self.activations = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.activations(super().forward(x))

    def build(self) -> None:
        self.first = self.Scaled()


class Scaled(nn.Module):
    """A layer within a block, with a parameter of the block's own beside dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.drop = nn.Linear(12, 12), nn.Dropout(0.3)
        self.scale = nn.Parameter(torch.ones(12))

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.inner(x)) * self.scale


class BlockBesideDropout(Student):
    def build(self) -> None:
        super().build()
        self.block = Scaled()

    def middle(self, x: Tensor) -> Tensor:
        return self.block(super().middle(x))


class ParameterBesideDropout(Student):
    """As of a block, but it is the student's own."""

    def build(self) -> None:
        super().build()
        self.drop, self.scale = nn.Dropout(0.3), nn.Parameter(torch.ones(12))

    def middle(self, x: Tensor) -> Tensor:
        return self.drop(super().middle(x)) * self.scale


class ByKeyword(Student):
    def middle(self, x: Tensor) -> Tensor:
        return self.first(input=x.flatten(1)).tanh()


class TrainedInEvaluation(Student):
    """Keeps a trained layer out of training mode."""

    def train(self, mode: bool = True) -> "TrainedInEvaluation":
        super().train(mode)
        self.first.eval()
        return self


class Autocast(Student):
    def middle(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = super().middle(x)
        return hidden.float()


class Siren(Student):
    """Sines of large numbers (Sitzmann et al. 2020): rounding decides where they end."""

    def build(self) -> None:
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)

    def middle(self, x: Tensor) -> Tensor:
        return (30 * self.second((30 * self.first(x.flatten(1))).sin())).sin()


class BuffersBesideParameters(Student):
    def build(self) -> None:
        super().build()
        self.scale = nn.Parameter(torch.ones(12))
        self.register_buffer("shift", torch.ones(12))

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x) * self.scale + self.shift


class InPlace(Student):
    """Changes the output of a hooked layer."""

    def build(self) -> None:
        self.first = nn.Sequential(nn.Linear(12, 12), nn.ReLU(inplace=True), nn.Linear(12, 12))

    def middle(self, x: Tensor) -> Tensor:
        return self.first(x.flatten(1)).tanh()


class InPlaceByFunction(Student):
    def middle(self, x: Tensor) -> Tensor:
        return self.first(x.flatten(1)).sigmoid_()


class Checkpointed(Student):
    """Computed again in the backward pass: one backward pass each."""

    def middle(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return checkpoint(self.first, flat, use_reentrant=False).tanh()


class CheckpointedTwice(Student):
    def middle(self, x: Tensor) -> Tensor:
        hidden = checkpoint(self.first, x.flatten(1), use_reentrant=False).tanh()
        return checkpoint(self.first, hidden, use_reentrant=False).tanh()


# --- what holds ------------------------------------------------------------------------------


class Tied(Student):
    """One tensor under two names."""

    def build(self) -> None:
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)
        self.second.weight = self.first.weight

    def middle(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.flatten(1)).tanh()).tanh()


class TiedTranspose(Embedded):
    """An embedding whose table also reads out, by a layer that holds it."""

    def build(self) -> None:
        self.first, self.out = nn.Embedding(12, 12), nn.Linear(12, 12, bias=False)
        self.out.weight = self.first.weight

    def middle(self, x: Tensor) -> Tensor:
        return self.out(self.first(tokens(x)).mean(dim=1)).tanh()


class CalledTwice(Student):
    def middle(self, x: Tensor) -> Tensor:
        return self.first(self.first(x.flatten(1)).tanh()).tanh()


class Positions(Student):
    """A table of positions in a module that takes and answers the examples."""

    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(2, 6))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table

    def build(self) -> None:
        self.positions = self.Added()
        super().build()

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(self.positions(x))


class ParameterOfItsOwn(Student):
    """The student itself owns a parameter: Opacus takes it whole, layers and all."""

    def build(self) -> None:
        super().build()
        self.scale = nn.Parameter(torch.ones(12))

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x) * self.scale


class ExpandedPositions(Student):
    def build(self) -> None:
        self.positions = nn.Embedding(6, 2)
        super().build()

    def middle(self, x: Tensor) -> Tensor:
        places = torch.arange(6).expand(len(x), 6)
        return super().middle(x + self.positions(places).transpose(1, 2))


class InstanceNormed(Student):
    def build(self) -> None:
        self.norm = nn.InstanceNorm1d(2, affine=True)
        super().build()

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(self.norm(x))


class LayerNormed(Student):
    def build(self) -> None:
        self.norm = nn.LayerNorm((2, 6))
        super().build()

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(self.norm(x))


class LayerNormedWithoutBias(LayerNormed):
    def build(self) -> None:
        super().build()
        self.norm = nn.LayerNorm((2, 6), bias=False)


class GroupNormedWithoutAffine(LayerNormed):
    def build(self) -> None:
        super().build()
        self.norm = nn.GroupNorm(1, 2, affine=False)


class DroppedInTrainingNever(Student):
    """Keeps its dropout out of training mode."""

    def build(self) -> None:
        super().build()
        self.drop = nn.Dropout(0.3)

    def train(self, mode: bool = True) -> "DroppedInTrainingNever":
        super().train(mode)
        self.drop.eval()
        return self

    def middle(self, x: Tensor) -> Tensor:
        return self.drop(super().middle(x))


class Transposed(Student):
    def build(self) -> None:
        self.first = nn.ConvTranspose1d(2, 2, 3, padding=1)

    def middle(self, x: Tensor) -> Tensor:
        return self.first(x).tanh().flatten(1)


class ReshapedByLength(Student):
    """Fails on an empty batch: it is never given one."""

    def middle(self, x: Tensor) -> Tensor:
        return self.first(x.reshape(len(x), -1)).tanh()


class Dropped(Student):
    def build(self) -> None:
        super().build()
        self.drop = nn.Dropout(0.3)

    def middle(self, x: Tensor) -> Tensor:
        return self.drop(super().middle(x))


class DroppedByFunction(Student):
    def middle(self, x: Tensor) -> Tensor:
        return F.dropout(super().middle(x), 0.3, self.training)


class DroppedInAttention(PrivateAttention):
    def build(self) -> None:
        self.first = DPMultiheadAttention(6, 2, dropout=0.3, batch_first=True)


class Lazy(Student):
    def build(self) -> None:
        self.first = nn.LazyLinear(12)


class DoublePrecision(Student):
    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = CLASSES) -> None:
        super().__init__(input_shape, num_classes)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.double()).float()


class FrozenFirst(Student):
    def build(self) -> None:
        super().build()
        self.first.requires_grad_(requires_grad=False)


class Mask(Student):
    """Integers that do not travel."""

    def build(self) -> None:
        super().build()
        self.register_buffer("order", torch.arange(12).flip(0), persistent=False)

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x.flatten(1)[:, self.order])


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class OwnFunction(Student):
    def middle(self, x: Tensor) -> Tensor:
        return StraightThrough.apply(super().middle(x))
