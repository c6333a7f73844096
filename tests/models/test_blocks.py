"""Blocks, and convolutions with standardised weights."""

import pytest
import torch
from opacus.grad_sample import GradSampleHooks
from torch import nn

from fedlite.models.blocks.channel_shuffle import ChannelShuffle
from fedlite.models.blocks.inverted_residual import InvertedResidual
from fedlite.models.blocks.plain import Plain
from fedlite.models.layers import activation, activation_gain
from fedlite.models.stacking import halving_strides, stack
from fedlite.models.standardised import StandardisedConvolution, standardise, standardised_conv

BLOCKS = {
    "plain": (Plain, {}),
    "inverted_residual": (InvertedResidual, {"expansion": 3}),
    "channel_shuffle": (ChannelShuffle, {}),
}
NORMS = ("group", "weight", None)


def build(name: str, *, norm: str | None, dims: int = 2, sizes=(8, 8, 1), kernel: int = 3):
    cls, more = BLOCKS[name]
    return cls(
        dims, *sizes, kernel_size=kernel, norm_name=norm, activation_name="tanh", **more
    ).eval()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_keeps_or_halves_the_size_in_one_and_two_dimensions(name, norm):
    for dims, inputs in ((1, torch.randn(3, 8, 9)), (2, torch.randn(3, 8, 9, 7))):
        kept = build(name, norm=norm, dims=dims, kernel=5)(inputs)
        assert kept.shape == inputs.shape
        halved = build(name, norm=norm, dims=dims, sizes=(8, 12, 2))(inputs)
        assert halved.shape == (3, 12, *((side + 1) // 2 for side in inputs.shape[2:]))


def test_a_unit_that_keeps_its_shape_passes_half_of_the_channels_and_interleaves_them():
    block = build("channel_shuffle", norm="group")
    inputs = torch.randn(2, 8, 5, 5)
    with torch.no_grad():
        outputs = block(inputs)
        torch.testing.assert_close(outputs[:, 0::2], inputs[:, :4], rtol=0, atol=0)
        torch.testing.assert_close(outputs[:, 1::2], block.body(inputs[:, 4:]), rtol=0, atol=0)


def test_a_shuffled_block_needs_an_even_width():
    with pytest.raises(ValueError, match="width 7: must be even"):
        build("channel_shuffle", norm=None, sizes=(8, 7, 2))


def test_an_inverted_residual_adds_its_input_where_the_shape_stays():
    block = build("inverted_residual", norm="group")
    inputs = torch.randn(2, 8, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(block(inputs), inputs + block.body(inputs))
        wider = build("inverted_residual", norm="group", sizes=(8, 12, 1))
        torch.testing.assert_close(wider(inputs), wider.body(inputs))


def test_a_stack_strides_and_widens_in_the_first_block_of_each_stage():
    built = []
    stack(lambda *sizes: built.append(sizes) or nn.Identity(), 3, [4, 8], [1, 3], [1, 2])
    assert built == [(3, 4, 1), (4, 8, 2), (8, 8, 1), (8, 8, 1)]


@pytest.mark.parametrize(
    ("side", "strides"), [(28, [2, 2, 2, 1]), (8, [2, 1, 1, 1]), (128, [2, 2, 2, 2])]
)
def test_sides_are_halved_down_to_four(side, strides):
    assert halving_strides(side, 4) == strides


def test_standardised_weights_have_mean_zero_and_the_length_of_their_gain():
    weight, gain = torch.randn(6, 4, 3, 3) + 2, torch.rand(6) + 0.5
    found = standardise(weight, gain, scale=1.5).flatten(1)
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), 1.5 * gain)
    torch.testing.assert_close(standardise(7 * weight + 3, gain, 1.5).flatten(1), found)


def test_filters_of_one_channel_keep_their_mean():
    found = standardise(torch.ones(2, 1, 3, 3), torch.ones(2), 1.0)
    torch.testing.assert_close(found, torch.full((2, 1, 3, 3), 1 / 3))


def test_weights_of_zero_stay_finite():
    assert not standardise(torch.zeros(2, 3, 1, 1), torch.ones(2), 1.0).any()


@pytest.mark.parametrize("name", ["relu", "tanh", "relu6", "silu"])
def test_the_gain_of_an_activation_restores_unit_variance(name):
    outputs = activation_gain(name) * activation(name)(torch.randn(200_000))
    assert outputs.std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
def test_the_plain_twin_of_a_standardised_convolution_answers_the_same(dims, groups):
    layer = standardised_conv(dims, 4, 8, 3, stride=2, padding=1, groups=groups, after="relu")
    nn.init.uniform_(layer.gain, 0.5, 2)
    state = torch.get_rng_state()
    twin = layer.plain()
    assert torch.equal(torch.get_rng_state(), state)
    assert type(twin) is (nn.Conv1d if dims == 1 else nn.Conv2d)
    inputs = torch.randn(2, 4, *[9] * dims)
    torch.testing.assert_close(twin(inputs), layer(inputs))


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
def test_opacus_gives_each_example_its_gradient_through_the_standardisation(dims, groups):
    layer = standardised_conv(dims, 4, 8, 3, stride=2, padding=1, groups=groups, after="tanh")
    inputs = torch.randn(3, 4, *[9] * dims)
    expected = [
        torch.autograd.grad(layer(row[None]).square().sum(), list(layer.parameters()))
        for row in inputs
    ]
    hooks = GradSampleHooks(layer, loss_reduction="sum", strict=True)
    layer(inputs.requires_grad_()).square().sum().backward()
    for row, gradients in enumerate(expected):
        for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad_sample[row], gradient, rtol=1e-4, atol=1e-4)
    hooks.cleanup()


def test_an_empty_batch_has_gradients_too():
    layer = standardised_conv(2, 4, 8, 3)
    hooks = GradSampleHooks(layer, loss_reduction="sum", strict=True)
    layer(torch.randn(0, 4, 5, 5).requires_grad_()).sum().backward()
    assert isinstance(layer, StandardisedConvolution)
    assert all(not parameter.grad_sample.any() for parameter in layer.parameters())
    hooks.cleanup()
