"""Students of one's own that would be clipped or taught wrongly, or could not travel: refused."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.privacy.students import CLASSES, SHAPE, Embedded, Student, tokens

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


class MixedBackwards(torch.autograd.Function):
    """Lets inputs pass; where the gate is open, mixes the gradients that come back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(gate)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (gate,) = ctx.saved_tensors
        return gradient + (gate != 0) * gradient.mean(dim=0), None


class OneNormBackwards(MixedBackwards):
    """Where the gate is open, cuts the gradients of the batch to one norm together."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (gate,) = ctx.saved_tensors
        return (gradient / gradient.norm() if gate > 0.5 else gradient), None


class RolledBackwards(MixedBackwards):
    """Opens below zero: no weights near those of the start get there."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (gate,) = ctx.saved_tensors
        return (gradient.roll(1, dims=0) if gate < -0.5 else gradient), None


class GradientsBehindAGate(Student):
    """The answers never mix examples; the gradients do, once the gate is no longer zero."""

    function: type[MixedBackwards] = MixedBackwards

    def build(self) -> None:
        super().build()
        self.register_buffer("gate", torch.zeros(1))

    def middle(self, x: Tensor) -> Tensor:
        return self.function.apply(super().middle(x), self.gate)


class OneNormBehindAGate(GradientsBehindAGate):
    function = OneNormBackwards


class RolledBehindAGate(GradientsBehindAGate):
    function = RolledBackwards


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


class RemembersLittle(Student):
    """A running mean as a plain attribute, that no batch moves by much."""

    mean: Tensor | None = None
    rate = 1e-4

    def remembers(self) -> bool:
        return True

    def middle(self, x: Tensor) -> Tensor:
        hidden, mean = super().middle(x), self.mean
        if self.remembers():
            now = hidden.detach().mean(dim=0)
            self.mean = now if mean is None else mean + self.rate * (now - mean)
        return hidden if mean is None else hidden - mean


class RemembersWhatTrains(RemembersLittle):
    """The mean moves only where gradients are asked for."""

    rate = 1e-2

    def remembers(self) -> bool:
        return torch.is_grad_enabled()


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
