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


# --- one example touches another, or dimension 0 holds something else -------------------------


class FoldedRows(Student):
    """Every channel of an example is a row of its own; their mean comes last."""

    def build(self) -> None:
        self.first = nn.Linear(6, 12)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.head(self.first(x.flatten(0, 1)).tanh())
        return rows.reshape(len(x), 2, -1).mean(dim=1)


class FoldedRowsWithin(Student):
    """Inside one layer only: the head sees examples again."""

    def build(self) -> None:
        self.first = nn.Linear(6, 6)

    def middle(self, x: Tensor) -> Tensor:
        return self.first(x.flatten(0, 1)).tanh().reshape(len(x), 12)


class Windows(Student):
    """Overlapping windows as rows."""

    def build(self) -> None:
        self.first = nn.Linear(8, 12)

    def middle(self, x: Tensor) -> Tensor:
        windows = x.unfold(2, 4, 1).transpose(1, 2)  # (n, 3, 2, 4)
        return self.first(windows.reshape(-1, 8)).tanh().reshape(len(x), 3, 12).mean(dim=1)


class SequenceFirst(Student):
    """Dimension 0 of a hidden layer is time."""

    def build(self) -> None:
        self.first = nn.Linear(2, 12)

    def middle(self, x: Tensor) -> Tensor:
        return self.first(x.permute(2, 0, 1)).tanh().mean(dim=0)


class MirroredBatch(Student):
    """Every example beside its mirror image, as further rows."""

    def forward(self, x: Tensor) -> Tensor:
        both = super().forward(torch.cat([x, x.flip(2)]))
        return (both[: len(x)] + both[len(x) :]) / 2


class MirrorOfTheBatch(Student):
    """The last example beside the first."""

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x + x.flip(0) / 2)


class Centred(Student):
    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x - x.mean(dim=0))


class CentredGradientsAlone(Student):
    """The answers are those of single examples; the gradients are not."""

    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        return hidden + (hidden.mean(dim=0) - hidden.mean(dim=0).detach())


class StandardisedBehindZeros(Student):
    """Batch statistics, hidden at first by a head of zeros."""

    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = CLASSES) -> None:
        super().__init__(input_shape, num_classes)
        nn.init.zeros_(self.head.weight)

    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        return (hidden - hidden.mean(dim=0)) / (hidden.std(dim=0, correction=0) + 1e-3)


class BehindAGateOfZero(Student):
    """A buffer that the server may send with another value turns the mixing on."""

    def build(self) -> None:
        super().build()
        self.register_buffer("gate", torch.zeros(1))

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x + self.gate * x.mean(dim=0))


class Rolled(Student):
    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x + torch.roll(x, 1, dims=0) / 10)


class ShiftedRows(Student):
    """A layer used twice, the second time without the first example."""

    def middle(self, x: Tensor) -> Tensor:
        flat = self.first(x.flatten(1)).tanh()
        return flat + F.pad(self.first(x.flatten(1)[1:]).tanh(), (0, 0, 1, 0))


class ByBatchLength(Student):
    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x) / len(x)


class BySign(Student):
    """Control flow on the whole batch."""

    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        return hidden if x.sum() > 0 else hidden * 2


class ByLargest(Student):
    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x / x.abs().max())


class FewerAnswers(Student):
    """The output has another length than the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[: max(1, len(x) - 1)]


class SoftmaxOverTheBatch(Student):
    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        return hidden * hidden.softmax(dim=0)


class KeepsTheLast(Student):
    """Remembers the mean of the batch before, as no buffer."""

    last: Tensor | None = None

    def middle(self, x: Tensor) -> Tensor:
        before, self.last = self.last, x.detach().mean(dim=0)
        return super().middle(x if before is None else x + before)


class CountsQuietly(Student):
    """A buffer outside the state follows the data."""

    def build(self) -> None:
        super().build()
        self.register_buffer("seen", torch.zeros(2, 6), persistent=False)

    def middle(self, x: Tensor) -> Tensor:
        self.seen += x.detach().mean(dim=0)
        return super().middle(x)


class MixesInEvaluation(Student):
    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x if self.training else x - x.mean(dim=0))


class BatchNormed(Student):
    def build(self) -> None:
        self.first = nn.Sequential(nn.Linear(12, 12), nn.BatchNorm1d(12))


class BatchNormScripted(Student):
    def build(self) -> None:
        norm = nn.BatchNorm1d(12, affine=False, track_running_stats=False)
        self.first = nn.Sequential(nn.Linear(12, 12), torch.jit.script(norm))


class TrackedInstanceNorm(Student):
    def build(self) -> None:
        self.norm = nn.InstanceNorm1d(2, track_running_stats=True)
        super().build()

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(self.norm(x))


# --- wrong gradients ------------------------------------------------------------------------


class WeightBesideItsLayer(Student):
    def middle(self, x: Tensor) -> Tensor:
        flat = self.first(x.flatten(1)).tanh()
        return flat + F.linear(flat, self.first.weight)


class FilterBesideItsLayer(Student):
    def build(self) -> None:
        self.first = nn.Conv1d(2, 2, 3, padding=1)

    def middle(self, x: Tensor) -> Tensor:
        return F.conv1d(self.first(x).tanh(), self.first.weight, padding=1).flatten(1)


class FunctionalOnly(Student):
    def middle(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.first.weight, self.first.bias).tanh()


class Reflecting(Student):
    mode = "reflect"

    def build(self) -> None:
        self.first = nn.Conv1d(2, 2, 3, padding=1, padding_mode=self.mode)

    def middle(self, x: Tensor) -> Tensor:
        return self.first(x).tanh().flatten(1)


class Circular(Reflecting):
    mode = "circular"


class Replicating(Reflecting):
    mode = "replicate"


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


class Padded(Embedded):
    def table(self) -> nn.Module:
        return nn.Embedding(5, 12, padding_idx=2)


class ScaledByFrequency(Embedded):
    def table(self) -> nn.Module:
        return nn.Embedding(5, 12, scale_grad_by_freq=True)


class CutTable(Embedded):
    def table(self) -> nn.Module:
        return nn.Embedding(5, 12, max_norm=0.5)


class Bags(Embedded):
    def table(self) -> nn.Module:
        return nn.EmbeddingBag(5, 12)

    def middle(self, x: Tensor) -> Tensor:
        return self.first(tokens(x)).tanh()


class FlatBags(Bags):
    """One long row of tokens with offsets: dimension 0 holds tokens."""

    def middle(self, x: Tensor) -> Tensor:
        return self.first(tokens(x).flatten(), torch.arange(len(x)) * 12).tanh()


class MaskedOptionally(Student):
    """Opacus repeats a layer's forward without its second argument."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(12))

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return x * self.weight if mask is None else x * self.weight * mask

    def build(self) -> None:
        super().build()
        self.scaled = self.Scaled()

    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        return self.scaled(hidden, hidden.detach().abs())


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


# --- what cannot travel -----------------------------------------------------------------------


class WithBuffer(Student):
    """A buffer in the state that is no array of floats."""

    value = torch.arange(3)

    def build(self) -> None:
        super().build()
        self.register_buffer("extra", self.value)


class BooleanBuffer(WithBuffer):
    value = torch.ones(3, dtype=torch.bool)


class ScalarBuffer(WithBuffer):
    value = torch.tensor(1.0)


class InfiniteBuffer(WithBuffer):
    value = torch.tensor([float("-inf"), 0.0])


class ScalarParameter(Student):
    def build(self) -> None:
        super().build()
        self.temperature = nn.Parameter(torch.tensor(1.0))

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x) * self.temperature


class HalfPrecision(Student):
    def build(self) -> None:
        self.first = nn.Linear(12, 12).half()

    def middle(self, x: Tensor) -> Tensor:
        return self.first(x.flatten(1).half()).float().tanh()


class Saying(Student):
    """Says more of itself than arrays."""

    def get_extra_state(self) -> object:
        return {"version": 1}

    def set_extra_state(self, state: object) -> None:
        pass


class Frozen(Student):
    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = CLASSES) -> None:
        super().__init__(input_shape, num_classes)
        self.requires_grad_(requires_grad=False)


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
