"""Channels tied by gates, maxima and halves: what was planned is cut, and the right ones."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fedlite.base.errors import FedliteError
from fedlite.compress.shrink.coupling import blocks_of
from fedlite.compress.shrink.prune import Criterion, cut_channels, plan_widths
from fedlite.compress.shrink.pruned_file import load_pruned, save_pruned
from fedlite.models.options import ModelOptions
from tests.tasks import shaped

SHAPE = (1, 4, 6)
TASK = shaped(SHAPE, 5)


class Net(nn.Module):
    """Two layers and what ties the channels of the first."""

    width, joined = 24, 12  # channels of the first layer, and what is left of them

    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = 5) -> None:
        super().__init__()
        self.first = nn.Linear(24, self.width)
        self.head = nn.Linear(self.joined, num_classes)

    def join(self, h: Tensor) -> Tensor:
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.join(self.first(x.flatten(1))))


class Gate(Net):
    def join(self, h: Tensor) -> Tensor:
        half, gate = h.chunk(2, 1)
        return half.tanh() * gate.sigmoid()


class Glu(Net):
    def join(self, h: Tensor) -> Tensor:
        return F.glu(h, dim=1)


class GluLayer(Net):
    join = nn.GLU()


class MaxOfHalves(Net):
    def join(self, h: Tensor) -> Tensor:
        return torch.maximum(*h.chunk(2, -1))


class MaxOfThree(Net):
    joined = 8

    def join(self, h: Tensor) -> Tensor:
        return torch.stack(h.chunk(3, 1)).amax(0)


class MaxOfPairs(Net):
    def join(self, h: Tensor) -> Tensor:
        return h.view(len(h), -1, 2).amax(-1)


class MaxOfNeighbours(Net):
    def join(self, h: Tensor) -> Tensor:
        return torch.maximum(h[:, ::2], h[:, 1::2])


class BothSigns(Net):
    width, joined = 12, 24

    def join(self, h: Tensor) -> Tensor:
        return torch.cat([h.relu(), (-h).relu()], dim=1)


class GatedImages(nn.Module):
    """Gates over images, behind a norm with groups, and one more convolution behind them."""

    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.activation = nn.PReLU(8)
        self.second = nn.Conv2d(8, 12, 3, padding=1)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(F.glu(self.norm(self.first(x)), dim=1))
        return self.head(torch.maximum(*self.second(x).chunk(2, 1)).mean((2, 3)))


TIED = [Gate, Glu, GluLayer, MaxOfHalves, MaxOfThree, MaxOfPairs, MaxOfNeighbours, BothSigns]


def planned(model: nn.Module, ratio: float) -> dict[str, int]:
    return {n: width.kept for n, width in plan_widths(model, TASK, ratio, 1, {}).items()}


def widths(model: nn.Module) -> dict[str, int]:
    return {
        name: len(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


@pytest.mark.parametrize("net", [*TIED, GatedImages])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
def test_tied_channels_are_cut_as_planned_and_load_again(net, ratio, tmp_path):
    model = net()
    plan = planned(model, ratio)
    cut = cut_channels(model, TASK, plan, Criterion()).eval()
    assert plan
    for name, kept in plan.items():
        full = widths(model)[name]
        assert widths(cut)[name] == kept < full
        assert abs(kept - full * (1 - ratio)) <= 4
    save_pruned(cut, tmp_path / "pruned.pt")
    loaded = load_pruned(
        tmp_path / "pruned.pt", ModelOptions("n", f"{__name__}.{net.__name__}"), TASK
    )
    inputs = torch.randn(3, *SHAPE)
    assert torch.equal(loaded(inputs), cut(inputs))


def readers(net: type[Net], channel: int) -> Tensor:
    """Which inputs of the head a channel of the first layer reaches (joined,)."""
    quiet = torch.zeros(1, net.width)
    return (
        torch.stack(
            [
                net().join(quiet + size * F.one_hot(torch.tensor(channel), net.width))
                for size in (9, -9)
            ]
        )
        .ne(net().join(quiet))
        .any(0)[0]
    )


@pytest.mark.parametrize("net", TIED)
def test_the_weakest_go_with_all_that_is_tied_to_them(net):
    """Channels without weights, which the head does not read, are cut: the answers stay."""
    model, inputs = net(), torch.randn(6, *SHAPE)
    reached = torch.stack([readers(net, channel) for channel in range(net.width)])
    unread = reached[[1, 4]].any(0)
    silenced = reached[:, unread].any(1)
    with torch.no_grad():
        model.head.weight[:, unread] = 0
        model.first.weight[silenced] = 0
        model.first.bias[silenced] = 0
    kept = net.width - int(silenced.sum())
    cut = cut_channels(model, TASK, {"first": kept}, Criterion())
    assert widths(cut)["first"] == kept
    assert torch.allclose(cut(inputs), model(inputs), atol=1e-6)


class Interleaved(Net):
    """A view that a graph of dependencies reads the wrong way round, beside a layer that it reads
    rightly."""

    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = 5) -> None:
        super().__init__()
        self.second = nn.Linear(12, 12)

    def join(self, h: Tensor) -> Tensor:
        return self.second(h.view(len(h), 2, -1).amax(1)).tanh()


class Fixed(Interleaved):
    """Its forward holds a width as a constant."""

    def join(self, h: Tensor) -> Tensor:
        half, other = h.split(12, dim=1)
        return self.second(half * other).tanh()


def test_channels_that_cannot_be_followed_are_left_whole():
    assert planned(Interleaved(), 0.5) == {"second": 6}


def test_a_layer_that_cannot_be_cut_is_named_with_the_option_that_leaves_it_whole():
    with pytest.raises(FedliteError) as caught:
        cut_channels(Fixed(), TASK, planned(Fixed(), 0.5), Criterion())
    assert "counts on the width of 'first'" in str(caught.value)
    assert "'+compress.layer_ratios={first: 0}'" in str(caught.value)
    plan = plan_widths(Fixed(), TASK, 0.5, 1, {"first": 0.0})
    cut = cut_channels(Fixed(), TASK, {n: width.kept for n, width in plan.items()}, Criterion())
    assert widths(cut) == {"first": 24, "second": 6, "head": 5}


def test_where_no_layer_can_be_cut_it_is_said_why():
    class Alone(Net):
        width = joined = 12

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.head = nn.Linear(24, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.flatten(1))

    with pytest.raises(FedliteError, match=r"no layer can be cut \('head': it gives the classes\)"):
        plan_widths(Alone(), TASK, 0.5, 1, {})


class Recurrent(nn.Module):
    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = 5) -> None:
        super().__init__()
        self.before, self.layer = nn.Linear(6, 8), nn.LSTM(8, 12, batch_first=True)
        self.after, self.head = nn.Linear(12, 8), nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.after(self.layer(self.before(x[:, 0]))[0][:, -1]).tanh())


class Attentive(nn.Module):
    def __init__(self, input_shape: tuple[int, ...] = SHAPE, num_classes: int = 5) -> None:
        super().__init__()
        self.before = nn.Linear(6, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.block(self.before(x[:, 0])).mean(1)))


@pytest.mark.parametrize("net", [Recurrent, Attentive])
def test_recurrent_and_attending_students_load_again_at_their_new_widths(net, tmp_path):
    plan = planned(net(), 0.5)
    cut = cut_channels(net(), TASK, plan, Criterion()).eval()
    assert plan
    save_pruned(cut, tmp_path / "pruned.pt")
    options = ModelOptions("n", f"{__name__}.{net.__name__}")
    inputs = torch.randn(3, *SHAPE)
    assert torch.equal(load_pruned(tmp_path / "pruned.pt", options, TASK)(inputs), cut(inputs))


@given(st.integers(1, 12), st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=3)))
def test_blocks_hold_every_channel_once_and_what_is_tied_together(width, ties):
    ties = [kept for tie in ties if (kept := [one for one in tie if one < width])]
    blocks = blocks_of(width, ties)
    assert sorted(channel for block in blocks for channel in block) == list(range(width))
    for tie in ties:
        assert any(set(tie) <= set(block) for block in blocks)
    assert [block[0] for block in blocks] == sorted(min(block) for block in blocks)
