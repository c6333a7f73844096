"""Channels, heads and hidden units that are cut out, and the widths that stay."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.shrink.prune import (
    Criterion,
    Width,
    cut_channels,
    plan_widths,
)
from fedlite.compress.shrink.sensitivity import public_gradients
from fedlite.data.types import PublicData
from fedlite.models.build import build_model, count_parameters
from fedlite.models.options import ModelOptions
from tests.compress.conftest import CNN, MLP, MOBILENET, SHAPE
from tests.compress.shrink.pruning import prune_channels
from tests.tasks import shaped

NORMED = ModelOptions("cnn", CNN.module, {"norm": "group"})
STANDARDISED = ModelOptions("cnn", CNN.module, {"norm": "weight"})
TRANSFORMER = ModelOptions("t", "fedlite.models.transformer.Transformer", {"depth": 1})
BLOCKS = ("plain", "inverted_residual", "channel_shuffle")


def staged(block: str, norm: str | None = None) -> ModelOptions:
    stages = [{"block": block, "width": width, "depth": 2, "kernel_size": 3} for width in (8, 16)]
    kwargs = {"stages": stages, "norm": norm, "stem": 8}
    return ModelOptions("staged", "fedlite.models.staged.StagedNet", kwargs)


ALL = [
    (CNN, SHAPE),
    (NORMED, (9, 64)),
    (CNN, (9, 64)),
    (STANDARDISED, SHAPE),
    (MOBILENET, SHAPE),
    (MLP, (20,)),
    (TRANSFORMER, SHAPE),
    *((staged(block, norm), SHAPE) for block in BLOCKS for norm in ("group", "weight", None)),
]


def widths_by_name(model: nn.Module) -> dict[str, int]:
    return {
        name: getattr(module, "out_channels", None) or module.out_features
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear))
    }


@settings(max_examples=40)
@given(
    which=st.sampled_from(ALL),
    ratio=st.floats(min_value=0, max_value=0.8),
    round_to=st.sampled_from([1, 2, 3, 4, 8]),
)
def test_any_ratio_gives_a_working_smaller_network(which, ratio, round_to):
    config, shape = which
    model = build_model(config, shaped(shape, 5), seed=0)
    try:
        pruned = prune_channels(model, shape, ratio, round_to)
    except FedliteError:
        assert round_to > 1 or ratio <= 0.25  # rounding kept every channel
        return
    assert pruned(torch.zeros(3, *shape)).shape == (3, 5)
    assert count_parameters(pruned) <= count_parameters(model)
    assert all(p.requires_grad for p in pruned.parameters())
    assert all(p.grad is None for p in pruned.parameters())


@settings(max_examples=25)
@given(
    which=st.sampled_from(ALL),
    ratio=st.floats(min_value=0.3, max_value=0.8),
    round_to=st.sampled_from([1, 2, 4]),
    criterion=st.sampled_from(["l2", "l1", "random"]),
)
def test_widths_are_the_nearest_multiples_whatever_the_criterion(which, ratio, round_to, criterion):
    config, shape = which
    model = build_model(config, shaped(shape, 5), seed=0)
    plan = plan_widths(model, shaped(shape), ratio, round_to, {})
    pruned = prune_channels(model, shape, ratio, round_to, criterion=Criterion(criterion))
    before, after = widths_by_name(model), widths_by_name(pruned)
    for name, width in plan.items():
        assert width.full == before[name]
        assert width.kept == after[name]
        assert width.kept % width.step == 0
        assert width.step % round_to == 0
        nearest = abs(width.kept - before[name] * (1 - ratio)) <= width.step / 2 + 1e-9
        assert nearest or width.kept == width.step
    assert widths_by_name(model) == before


@pytest.mark.parametrize("config", [CNN, NORMED, MOBILENET, MLP])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_every_width_shrinks_by_the_ratio(config, ratio):
    model = build_model(config, shaped(SHAPE, 10), seed=0)
    pruned = dict(prune_channels(model, SHAPE, ratio, round_to=4).named_modules())
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            asked = module.out_channels * (1 - ratio)
            assert abs(pruned[name].out_channels - asked) <= 2
            assert pruned[name].out_channels % 4 == 0


@given(
    full=st.integers(1, 200),
    kept=st.integers(1, 200),
    step=st.integers(1, 16),
    parts=st.integers(1, 9),
)
def test_shares_of_a_cut_lead_down_to_the_whole_cut(full, kept, step, parts):
    kept = min(full, max(1, kept // step) * step)
    width = Width(full, kept, step)
    path = [width.after(part / parts) for part in range(parts + 1)]
    assert path == sorted(path, reverse=True)
    assert path[0] == full
    assert path[-1] == kept
    assert all(found == full or (found - kept) % step == 0 for found in path)


@pytest.mark.parametrize(
    ("config", "shape"),
    [(CNN, SHAPE), (MLP, (20,)), (CNN, (9, 64))]
    + [(staged(block), shape) for block in BLOCKS for shape in (SHAPE, (9, 64))],
)
def test_a_pruned_network_is_the_whole_one_with_its_cut_channels_silenced(config, shape):
    """Biases differ, so those that are left tell which channels are."""
    model = build_model(config, shaped(shape, 5), seed=0).eval()
    pruned = prune_channels(model, shape, 0.5, 2, criterion=Criterion("random", seed=1))
    left = dict(pruned.named_modules())

    def silence(name: str) -> Callable[..., torch.Tensor]:
        def hook(module: nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
            kept = torch.isin(module.bias, left[name].bias)
            return output * kept.reshape(1, -1, *[1] * (output.ndim - 2))

        return hook

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            module.register_forward_hook(silence(name))
    inputs = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    assert count_parameters(pruned) < count_parameters(model)
    torch.testing.assert_close(pruned(inputs), model(inputs), rtol=1e-4, atol=1e-5)


def test_shuffled_channels_stay_and_say_so():
    model = build_model(staged("channel_shuffle"), shaped(SHAPE, 10), seed=0)
    before = widths_by_name(model)
    after = widths_by_name(prune_channels(model, SHAPE, 0.5, 2))
    assert after["stages.0.1.body.0"] == before["stages.0.1.body.0"] // 2
    assert after["stages.0.1.body.5"] == before["stages.0.1.body.5"]
    with pytest.raises(UsageError, match="its channels are shuffled with those of other layers"):
        plan_widths(model, shaped(SHAPE), 0.5, 2, {"stages.0.1.body.5": 0.5})


def test_ratio_zero_is_an_equal_copy(student):
    copied = prune_channels(student, SHAPE, 0.0, 4, {"features": 0.0})
    assert copied is not student
    for name, value in student.state_dict().items():
        assert torch.equal(copied.state_dict()[name], value)


def test_pruning_leaves_the_model_it_was_given_alone(student):
    before = copy.deepcopy(student.state_dict())
    prune_channels(student, SHAPE, 0.5, 4)
    assert all(torch.equal(student.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_the_weakest_channels_go(name):
    model = build_model(MLP, shaped((20,), 5), seed=0)
    with torch.no_grad():
        model.hidden[0].weight[:32] *= 1e-3
        model.hidden[2].weight[:, :32] *= 1e-3
    pruned = prune_channels(model, (20,), 0.5, 4, criterion=Criterion(name))
    assert torch.equal(pruned.hidden[0].weight, model.hidden[0].weight[32:])


def test_l1_and_l2_disagree_about_one_large_weight_and_many_small_ones():
    model = build_model(MLP, shaped((20,), 5), seed=0)
    with torch.no_grad():
        model.hidden[2].weight.fill_(0.01)
        model.hidden[0].weight[:32] = 0.2
        model.hidden[0].weight[32:] = 0.01
        model.hidden[0].weight[32:, 0] = 1.5
    spread, spiked = model.hidden[0].weight[:32], model.hidden[0].weight[32:]
    for name, survivors in (("l1", spread), ("l2", spiked)):
        pruned = prune_channels(model, (20,), 0.5, 4, criterion=Criterion(name))
        assert torch.equal(pruned.hidden[0].weight, survivors)


def test_taylor_keeps_channels_that_the_loss_leans_on():
    """Inputs that are always zero: their large weights mean nothing to the loss."""
    model = build_model(ModelOptions("mlp", MLP.module, {"hidden": [16]}), shaped((20,), 5), seed=0)
    with torch.no_grad():
        model.hidden[0].weight[:8, 10:] = 0
        model.hidden[0].weight[8:, :10] = 0
        model.hidden[0].weight[8:] *= 50
        model.hidden[0].bias.zero_()
    inputs = torch.randn(100, 20, generator=torch.Generator().manual_seed(0))
    inputs[:, 10:] = 0
    gradients = public_gradients(model, model, PublicData(inputs, torch.arange(100) % 5), seed=0)
    strong = prune_channels(model, (20,), 0.5, 4)
    assert torch.equal(strong.hidden[0].weight, model.hidden[0].weight[8:])
    useful = prune_channels(model, (20,), 0.5, 4, criterion=Criterion("taylor", gradients))
    assert torch.equal(useful.hidden[0].weight, model.hidden[0].weight[:8])


def test_random_is_decided_by_its_seed_alone():
    model = build_model(MLP, shaped((20,), 5), seed=0)
    torch.manual_seed(1)
    first, same, other = (
        prune_channels(model, (20,), 0.5, 4, criterion=Criterion("random", seed=seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first.hidden[0].weight, same.hidden[0].weight)
    assert not torch.equal(first.hidden[0].weight, other.hidden[0].weight)


def test_layers_have_ratios_of_their_own_and_the_longest_name_wins():
    model = build_model(MOBILENET, shaped(SHAPE, 10), seed=0)
    before = widths_by_name(model)
    ratios = {"blocks": 0.25, "blocks.1": 0.5, "blocks.2.body.0": 0.0}
    after = widths_by_name(prune_channels(model, SHAPE, 0.75, 4, ratios))
    for name, ratio in [
        ("neck.0", 0.75), ("blocks.0.body.0", 0.25), ("blocks.1.body.0", 0.5),
        ("blocks.1.body.3", 0.5), ("blocks.2.body.0", 0.0), ("blocks.2.body.3", 0.0),
    ]:  # fmt: skip
        assert abs(after[name] - before[name] * (1 - ratio)) <= 2, name


def test_one_layer_alone_can_be_cut():
    model = build_model(MLP, shaped((20,), 5), seed=0)
    after = widths_by_name(prune_channels(model, (20,), 0.0, 4, {"hidden.2": 0.5}))
    assert after == widths_by_name(model) | {"hidden.2": 16}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("block.1", r"block\.1: no such layer; near: .*blocks\.1"),
        ("head", r"head: cannot be pruned, it gives the classes"),
        (
            "blocks.0.body.3",
            r"body\.3: its channels are cut together with those of blocks\.0\.body\.0;",
        ),
        ("blocks.2.body.6", r"cut together with those of blocks\.1\.body\.6; name that layer"),
        ("pool", r"pool: it holds no layer with channels; those: stem\.0"),
    ],
)
def test_a_layer_that_cannot_be_cut_under_its_name_is_one_line(name, says):
    model = build_model(MOBILENET, shaped(SHAPE, 10), seed=0)
    with pytest.raises(UsageError, match=says) as caught:
        plan_widths(model, shaped(SHAPE), 0.3, 4, {name: 0.5})
    assert str(caught.value).startswith(f"compress.layer_ratios.{name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "ratio"),
    [(ModelOptions("linear", MLP.module, {"hidden": ()}), 0.5), (CNN, 0.01)],
)
def test_nothing_to_prune_is_an_error_of_one_line(config, ratio):
    model = build_model(config, shaped(SHAPE, 10), seed=0)
    with pytest.raises(FedliteError, match=r"removes no channel|no layer can be cut") as caught:
        prune_channels(model, SHAPE, ratio, round_to=8)
    assert "\n" not in str(caught.value)


class Fixed(nn.Module):
    """A network that takes its width for granted, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(20, 8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.first(x) * torch.ones(8))
        return logits


class FullyConvolutional(nn.Module):
    """Its last convolution gives the classes; there is no linear layer at all."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(torch.relu(self.first(x))).mean(dim=(2, 3))
        return logits


def test_a_network_with_fixed_sizes_is_an_error_of_one_line():
    with pytest.raises(FedliteError, match=r"pruning Fixed: its layers cannot be cut") as caught:
        cut_channels(Fixed(), shaped((20,)), {"first": 4}, Criterion())
    assert "\n" not in str(caught.value)


def test_the_layer_that_gives_the_classes_stays_whatever_it_is():
    after = widths_by_name(prune_channels(FullyConvolutional(), SHAPE, 0.5, 1))
    assert after == {"first": 4, "last": 5}
