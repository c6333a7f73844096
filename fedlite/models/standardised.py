"""Convolutions that need no norm: scaled weight standardisation, and Opacus' rule for it.

Opacus is imported where the rule is used: who only runs such a model needs none of it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fedlite.models.layers import activation_gain


def standardise(weight: Tensor, gain: Tensor, scale: float) -> Tensor:
    """Weights (out, in, ...) with mean 0 and length ``scale * gain`` (out,) per output channel.

    Scaled weight standardisation (Brock, De and Smith 2021, *Characterizing signal propagation to
    close the performance gap in unnormalized ResNets*): a variance of ``1 / fan_in``. Filters that
    see one channel alone keep their mean: without it, a depthwise convolution would be blind to
    flat areas.
    """
    flat = weight.flatten(1)
    if weight.shape[1] > 1:
        flat = flat - flat.mean(dim=1, keepdim=True)
    length = flat.square().sum(dim=1, keepdim=True).clamp(min=1e-8).sqrt()
    return (flat * (scale * gain[:, None] / length)).reshape(weight.shape)


class StandardisedConvolution(nn.modules.conv._ConvNd):
    """A convolution whose weights are standardised at every use, in place of a norm after it.

    Nothing depends on the batch or on other examples. Once training is over, :meth:`plain` gives
    the ordinary convolution that it amounts to.

    Args:
        sizes, options: as of ``Conv1d`` and ``Conv2d``.
        scale: a constant factor, :func:`fedlite.models.layers.activation_gain` of the activation
            that the inputs come from. A learnt gain per output channel comes on top.
    """

    gain: nn.Parameter
    scale: float

    def __init__(self, *sizes: Any, scale: float, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.gain = nn.Parameter(torch.ones(self.out_channels))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, ...) to (n, out_channels, ...), like the plain convolution."""
        weight = standardise(self.weight, self.gain, self.scale)
        answer: Tensor = self._conv_forward(x, weight, self.bias)
        return answer

    def pulled_back(self, gradients: Tensor) -> dict[Tensor, Tensor]:
        """Gradients (n, *weight.shape) of standardised weights, taken back to weight and gain."""

        def use(weight: Tensor, gain: Tensor) -> Tensor:
            return standardise(weight, gain, self.scale)

        back = torch.func.vjp(use, self.weight.detach(), self.gain.detach())[1]
        weights, gains = torch.func.vmap(back)(gradients)
        return {self.weight: weights, self.gain: gains}

    def plain(self) -> nn.Module:
        """An ordinary ``Conv1d`` or ``Conv2d`` with the standardised weights as its constants."""
        twin: nn.Module = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Conv1d if self.weight.ndim == 3 else nn.Conv2d,
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
            bias=self.bias is not None,
        )
        state = {"weight": standardise(self.weight, self.gain, self.scale).detach()}
        if self.bias is not None:
            state["bias"] = self.bias.detach()
        twin.load_state_dict(state)
        return twin.train(self.training)


class StandardisedConv1d(StandardisedConvolution, nn.Conv1d):
    """Over series."""


class StandardisedConv2d(StandardisedConvolution, nn.Conv2d):
    """Over images."""


def standardised_conv(
    dims: int,
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    after: str | None = None,
) -> nn.Module:
    """With bias; ``after`` is the activation that the inputs come from, None for no activation."""
    cls = StandardisedConv1d if dims == 1 else StandardisedConv2d
    scale = 1.0 if after is None else activation_gain(after)
    return cls(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, scale=scale)


def register_with_opacus() -> None:
    """Tell Opacus the rule for gradients of single examples; before a model is hooked."""
    from opacus.grad_sample import register_grad_sampler

    register_grad_sampler([StandardisedConv1d, StandardisedConv2d])(per_example_gradients)


def per_example_gradients(
    layer: StandardisedConvolution, activations: list[Tensor], backprops: Tensor
) -> dict[Tensor, Tensor]:
    """Opacus' gradients of the plain convolution, each taken back through the standardisation.

    Opacus would treat an unknown layer by ``vmap`` over its forward, which no empty batch survives.
    """
    from opacus.grad_sample.conv import compute_conv_grad_sample

    plain = layer.plain()
    found = compute_conv_grad_sample(plain, activations, backprops)
    samples = layer.pulled_back(found[plain.weight])
    if layer.bias is not None:
        samples[layer.bias] = found[plain.bias]
    return samples
