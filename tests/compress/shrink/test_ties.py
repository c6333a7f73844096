"""Tied weights stay one parameter when channels are cut, or their layers are left whole."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.shrink.prune import Criterion, cut_channels, plan_widths
from fedlite.compress.shrink.pruned_file import load_pruned, save_pruned
from fedlite.compress.shrink.ties import ties_of
from fedlite.models.options import ModelOptions
from tests.tasks import shaped, texts

VECTORS, TEXTS = shaped((24,), 5), texts(length=6)


class TwiceTheSame(nn.Module):
    """A layer whose weights are used again, where other channels come in."""

    def __init__(self, input_shape: tuple[int, ...] = (24,), num_classes: int = 5) -> None:
        super().__init__()
        self.wide = nn.Linear(24, 24)
        self.first, self.again = nn.Linear(24, 24), nn.Linear(24, 24)
        self.again.weight = self.first.weight
        self.last, self.head = nn.Linear(24, 16), nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.wide(x).relu()).relu()
        return self.head(self.last(self.again(x).relu()).relu())


class TiedTable(nn.Module):
    """A text network whose table of vectors is read again to weigh the words of its answer."""

    def __init__(
        self, input_shape: tuple[int, ...] = (6,), num_classes: int = 3, vocabulary: int = 9
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, 16)
        self.mix = nn.Linear(16, 16)
        self.words = nn.Linear(16, vocabulary, bias=False)
        self.words.weight = self.table.weight
        self.head = nn.Linear(vocabulary, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.table(tokens).mean(dim=1)
        return self.head(self.words((h + self.mix(h)).tanh()).relu())


def table() -> nn.Module:
    return TiedTable(TEXTS.input_shape, TEXTS.num_classes, TEXTS.vocabulary or 0)


def test_a_tied_table_of_vectors_stays_one_and_its_file_too(tmp_path):
    model = table()
    plan = {name: one.kept for name, one in plan_widths(model, TEXTS, 0.5, 1, {}).items()}
    assert plan == {"mix": 8}
    cut = cut_channels(model, TEXTS, plan, Criterion())
    assert cut.words.weight is cut.table.weight
    assert cut.table.weight.shape == (TEXTS.vocabulary, 8)
    assert len(list(cut.parameters())) == len(list(model.parameters()))
    save_pruned(cut, tmp_path / "pruned.pt")
    stored = torch.load(tmp_path / "pruned.pt", weights_only=True)["state_dict"]
    assert stored["words.weight"].data_ptr() == stored["table.weight"].data_ptr()
    options = ModelOptions("own", f"{__name__}.TiedTable")
    loaded = load_pruned(tmp_path / "pruned.pt", options, TEXTS)
    assert loaded.words.weight is loaded.table.weight
    shown = TEXTS.random(4, torch.Generator().manual_seed(0))
    assert torch.equal(loaded(shown), cut.eval()(shown))


def test_a_layer_whose_tied_weights_would_come_apart_is_left_whole():
    model = TwiceTheSame()
    plan = plan_widths(model, VECTORS, 0.5, 1, {})
    assert set(plan) == {"last"}
    apart = r"cannot be pruned, tied weights \(first.weight, again.weight\) would come apart"
    with pytest.raises(UsageError, match=apart):
        plan_widths(model, VECTORS, 0, 1, {"first": 0.5})


def test_a_cut_that_no_plan_allows_is_one_line():
    with pytest.raises(FedliteError, match=r"tied weights \(first.weight, again.weight\) would"):
        cut_channels(TwiceTheSame(), VECTORS, {"first": 12}, Criterion())


def test_ties_are_found_and_copied():
    assert ties_of(TwiceTheSame()) == (("first.weight", "again.weight"),)
    assert ties_of(copy.deepcopy(table())) == (("table.weight", "words.weight"),)
    assert ties_of(nn.Linear(2, 2)) == ()
