"""Per-example gradients of single layers, from what a layer saw and the gradient of its output.

The parts of book-keeping (Bu et al. 2022, *Differentially private optimization on large model at
small cost*): norms and weighted sums follow from a layer's inputs and the gradients of its outputs,
and where they do so without the gradients of single examples, these are never made. Kinds of layers
without a rule of their own here are served by the samplers that are registered with Opacus.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeGuard, cast

import torch
import torch.nn.functional as F
from opacus.grad_sample import GradSampleHooks
from opacus.layers.dp_rnn import RNNLinear
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight


@dataclass(frozen=True)
class Call:
    """One call of a layer: its ``inputs`` (n, ...), and the ``gradient`` of the summed losses with
    respect to its output (n, ...).

    ``saved`` is what :func:`saved_by` found in the forward pass.
    """

    inputs: tuple[Tensor, ...]
    gradient: Tensor
    saved: tuple[Tensor, ...] = ()


class ExampleGradients(Protocol):
    """The gradients of n examples with respect to the trained parameters of one layer."""

    def norms(self) -> Sequence[Tensor]:
        """Norms of each example's gradients, (n,) each, over parts of these parameters."""

    def weighted_sums(
        self, factors: Tensor, counts: Sequence[int]
    ) -> Mapping[Tensor, Sequence[Tensor]]:
        """The sums of gradients times ``factors`` (n,) over each group of consecutive examples, of
        ``counts`` examples, in the shape of each parameter."""

    def each(self) -> Mapping[Tensor, Tensor]:
        """The gradients themselves: (n, *shape) of each parameter."""


Rule = Callable[[nn.Module, Call], ExampleGradients]
"""The gradients of one call of a layer."""


class ReparametrisedConvolution(Protocol):
    """A ``Conv1d`` or ``Conv2d`` whose weight is made of its parameters anew at every call."""

    def pulled_back(self, gradients: Tensor) -> Mapping[Tensor, Tensor]:
        """Gradients (n, *weight.shape) of the weight that was used, taken back to the parameters
        that it is made of: (n, *shape) of each."""


def rule_of(layer: nn.Module) -> Rule | None:
    """How the gradients of ``layer`` are made; None where only Opacus' engine can.

    So it is with layers that Opacus runs again under ``vmap``, with parameters that are not those
    of their layer's kind, and with recurrent layers, whose calls may see fewer and fewer examples.
    """
    if hasattr(layer, "pulled_back"):
        return _of_reparametrised
    names = {name for name, _ in layer.named_parameters(recurse=False)}
    if not names <= {"weight", "bias"} or type(layer) is RNNLinear:
        return None
    known = _of_registered if type(layer) in GradSampleHooks.GRAD_SAMPLERS else None
    return _RULES.get(type(layer), known)


def saved_by(layer: nn.Module, output: Tensor) -> tuple[Tensor, ...]:
    """What autograd keeps of a forward pass that a rule can use: a group norm's means and inverse
    standard deviations, (n, groups) each."""
    if type(layer) is not nn.GroupNorm:
        return ()
    kept = (getattr(output.grad_fn, f"_saved_result{i}", None) for i in (1, 2))
    return tuple(one.detach() for one in kept if one is not None)


def added(calls: Sequence[ExampleGradients]) -> ExampleGradients:
    """The gradients over all calls of a layer, or of layers that share parameters."""
    if len(calls) == 1:
        return calls[0]
    total: dict[Tensor, Tensor] = {}
    for call in calls:
        for parameter, one in call.each().items():
            total[parameter] = total[parameter] + one if parameter in total else one
    return Made(total)


# --- gradients that are made, and those that are not -------------------------------------------


@dataclass(frozen=True)
class Made:
    """Gradients of single examples that were made: (n, *shape) of each parameter."""

    samples: Mapping[Tensor, Tensor]

    def norms(self) -> Sequence[Tensor]:
        """As :class:`ExampleGradients` says."""
        return [torch.linalg.vector_norm(_rows(one), dim=1) for one in self.samples.values()]

    def weighted_sums(
        self, factors: Tensor, counts: Sequence[int]
    ) -> Mapping[Tensor, Sequence[Tensor]]:
        """As :class:`ExampleGradients` says."""
        return {
            parameter: [
                _like_one_of(one, row)
                for row in _products(factors.to(one.dtype), _rows(one), counts)
            ]
            for parameter, one in self.samples.items()
        }

    def each(self) -> Mapping[Tensor, Tensor]:
        """As :class:`ExampleGradients` says."""
        return self.samples


def _as_it_lies(samples: Tensor) -> list[int]:
    """The dimensions of one example, from the one that changes slowest in memory."""
    return sorted(range(1, samples.ndim), key=samples.stride, reverse=True)


def _rows(samples: Tensor) -> Tensor:
    """(n, *shape) as (n, numbers), in the order in which the numbers lie: without a copy."""
    return samples.permute(0, *_as_it_lies(samples)).flatten(1)


def _like_one_of(samples: Tensor, row: Tensor) -> Tensor:
    """A row of :func:`_rows` in the shape of one example."""
    axes = _as_it_lies(samples)
    lying = row.reshape([samples.shape[axis] for axis in axes])
    return lying.permute([axes.index(axis) for axis in range(1, samples.ndim)]).contiguous()


@dataclass(frozen=True)
class OuterProducts:
    """The gradients of a linear layer that saw one vector of each example: never made.

    A weight's gradient is the outer product of the ``gradient`` of the output (n, o) and the
    ``inputs`` (n, i), and its norm the product of theirs (the ghost norm of Goodfellow 2015; Li et
    al. 2022). It is taken in float64: squares of very small numbers must not vanish before they
    meet very large ones.
    """

    layer: nn.Linear
    inputs: Tensor
    gradient: Tensor

    def norms(self) -> Sequence[Tensor]:
        """As :class:`ExampleGradients` says."""
        norms = torch.linalg.vector_norm(self.gradient, dim=1, dtype=torch.float64)
        if not self.layer.weight.requires_grad:
            return [norms]
        seen = torch.linalg.vector_norm(self.inputs, dim=1, dtype=torch.float64)
        return [norms, norms * seen] if _is_trained(self.layer.bias) else [norms * seen]

    def weighted_sums(
        self, factors: Tensor, counts: Sequence[int]
    ) -> Mapping[Tensor, Sequence[Tensor]]:
        """As :class:`ExampleGradients` says."""
        factors = factors.to(self.gradient.dtype)
        found: dict[Tensor, Sequence[Tensor]] = {}
        if self.layer.weight.requires_grad:
            weighted = (self.gradient * factors[:, None]).T
            found[self.layer.weight] = _products(weighted, self.inputs, counts)
        if _is_trained(self.layer.bias):
            found[self.layer.bias] = _products(factors, self.gradient, counts)
        return found

    def each(self) -> Mapping[Tensor, Tensor]:
        """As :class:`ExampleGradients` says."""
        return _of_vectors(self.layer, self.inputs[:, None], self.gradient[:, None]).samples


def _products(left: Tensor, right: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """``left`` (..., n) times ``right`` (n, m), over each group of ``counts`` of the n by itself:
    what is not finite in one group is in no other."""
    if len(counts) == 1:
        return [left @ right]
    lengths = list(counts)
    pairs = zip(torch.split(left, lengths, dim=-1), torch.split(right, lengths), strict=True)
    return [one @ other for one, other in pairs]


def _is_trained(parameter: Tensor | None) -> TypeGuard[Tensor]:
    return parameter is not None and parameter.requires_grad


# --- rules -------------------------------------------------------------------------------------


def _of_linear(layer: nn.Module, call: Call) -> ExampleGradients:
    layer, (inputs,) = cast(nn.Linear, layer), call.inputs
    if call.gradient.ndim == 2:
        return OuterProducts(layer, inputs, call.gradient)
    return _of_vectors(layer, inputs.flatten(1, -2), call.gradient.flatten(1, -2))


def _of_vectors(layer: nn.Linear, inputs: Tensor, gradient: Tensor) -> Made:
    """A linear layer that saw several vectors of each example: ``inputs`` (n, t, i), ``gradient``
    (n, t, o).

    The ghost norm of these is a sum in which rounding can outweigh what is left of it, so that an
    example could pass uncut: the gradients are made.
    """
    found: dict[Tensor, Tensor] = {}
    if layer.weight.requires_grad:
        found[layer.weight] = torch.bmm(gradient.transpose(1, 2), inputs)
    if _is_trained(layer.bias):
        found[layer.bias] = gradient.sum(dim=1)
    return Made(found)


def _of_convolution(layer: nn.Module, call: Call) -> ExampleGradients:
    layer = cast(nn.Conv2d, layer)
    weights = {layer.weight: _of_kernels(layer, call)} if layer.weight.requires_grad else {}
    return Made(weights | _of_bias(layer.bias, call.gradient))


def _of_reparametrised(layer: nn.Module, call: Call) -> ExampleGradients:
    pulled = cast(ReparametrisedConvolution, layer).pulled_back(
        _of_kernels(cast(nn.Conv2d, layer), call)
    )
    trained = {one: found for one, found in pulled.items() if one.requires_grad}
    return Made(trained | _of_bias(cast(nn.Conv2d, layer).bias, call.gradient))


def _of_bias(bias: Tensor | None, gradient: Tensor) -> dict[Tensor, Tensor]:
    return {bias: _over_places(gradient)} if _is_trained(bias) else {}


def _over_places(values: Tensor) -> Tensor:
    """(n, channels, ...) added up to (n, channels)."""
    places = tuple(range(2, values.ndim))
    return values.sum(dim=places) if places else values


def _of_kernels(layer: nn.Conv2d, call: Call) -> Tensor:
    """A convolution's weight, (n, *weight.shape); one over series is one over images of height 1.

    Where a kernel sees few channels, all examples become groups of one convolution, and torch
    computes the gradient of its weight. Else what the kernel saw is laid out, place by place, and
    one matrix product for each example sums over the places.
    """
    (inputs,), gradient = call.inputs, call.gradient
    padding: Sequence[int] = (0,) * (inputs.ndim - 2)
    if isinstance(layer.padding, str):
        inputs = F.pad(inputs, layer._reversed_padding_repeated_twice)
    else:
        padding = layer.padding
    window = _Window(layer.weight.shape[2:], layer.stride, padding, layer.dilation)
    if inputs.ndim == 3:
        inputs, gradient, window = inputs[:, :, None], gradient[:, :, None], window.of_height_1()
    if layer.groups > 1 or layer.in_channels == 1:
        found = _by_groups(inputs, gradient, window, layer.groups)
    else:
        found = _by_places(inputs, gradient, window)
    return found.reshape(len(found), *layer.weight.shape)


class _Window(NamedTuple):
    """How a convolution's kernel moves, in each direction of space."""

    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]

    def of_height_1(self) -> "_Window":
        """The window over a series, as one over images of a single line."""
        kernel, stride, padding, dilation = self
        return _Window((1, *kernel), (1, *stride), (0, *padding), (1, *dilation))


def _by_groups(inputs: Tensor, gradient: Tensor, window: _Window, groups: int) -> Tensor:
    """(n, out, in / groups, *kernel): n times the groups of one convolution."""
    count, channels, outputs = len(inputs), inputs.shape[1], gradient.shape[1]
    found: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
        inputs.reshape(1, count * channels, *inputs.shape[2:]),
        (count * outputs, channels // groups, *window.kernel),
        gradient.reshape(1, count * outputs, *gradient.shape[2:]),
        stride=tuple(window.stride),
        padding=tuple(window.padding),
        dilation=tuple(window.dilation),
        groups=count * groups,
    )
    return found.reshape(count, outputs, *found.shape[1:])


def _by_places(inputs: Tensor, gradient: Tensor, window: _Window) -> Tensor:
    """(n, out, in, *kernel), in the memory format of the inputs."""
    if any(window.padding):
        height, width = window.padding
        inputs = F.pad(inputs, (width, width, height, height))
    count, channels, *_ = inputs.shape
    outputs, *places = gradient.shape[1:]
    of_example, of_channel, *steps = inputs.stride()
    moves = [step * by for step, by in zip(steps, window.stride, strict=True)]
    within = [step * by for step, by in zip(steps, window.dilation, strict=True)]
    numbers = channels * math.prod(window.kernel)
    if of_channel == 1:  # channels last
        seen = inputs.as_strided(
            (count, *places, *window.kernel, channels), (of_example, *moves, *within, 1)
        )
        found = torch.bmm(gradient.flatten(2), seen.reshape(count, -1, numbers))
        return found.reshape(count, outputs, *window.kernel, channels).movedim(-1, 2)
    seen = inputs.as_strided(
        (count, channels, *window.kernel, *places), (of_example, of_channel, *within, *moves)
    )
    patches = seen.reshape(count, numbers, -1)
    found = torch.bmm(gradient.flatten(2), patches.transpose(1, 2))
    return found.reshape(count, outputs, channels, *window.kernel)


def _of_group_norm(layer: nn.Module, call: Call) -> ExampleGradients:
    layer, (inputs,), gradient = cast(nn.GroupNorm, layer), call.inputs, call.gradient
    found = _of_bias(layer.bias, gradient)
    if layer.weight.requires_grad:
        sums = _over_places(inputs * gradient)
        mean, scale = (
            one.repeat_interleave(layer.num_channels // layer.num_groups, dim=1)
            for one in call.saved
        )
        found[layer.weight] = (sums - mean * _over_places(gradient)) * scale
    return Made(found)


def _of_registered(layer: nn.Module, call: Call) -> ExampleGradients:
    """By the sampler that is registered with Opacus for this kind of layer."""
    sampler = GradSampleHooks.GRAD_SAMPLERS[type(layer)]
    inputs = [one.contiguous() for one in call.inputs]
    found = sampler(layer, inputs, call.gradient.contiguous())
    return Made({one: samples for one, samples in found.items() if one.requires_grad})


_RULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: _of_linear,
    nn.Conv1d: _of_convolution,
    nn.Conv2d: _of_convolution,
    nn.GroupNorm: _of_group_norm,
}
