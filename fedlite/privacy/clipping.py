"""The clipped sum: gradients of single examples, each cut to a norm, added up.

A gradient engine makes it: Opacus' hooks here, and faster ones, of which
:data:`fedlite.privacy.engines.ENGINES` is the table; every engine is held to the same tests. What a
loss is, an engine does not know: it is given a function from rows to losses, one for each row.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

import fedlite.privacy.opacus_rules  # noqa: F401  # tells Opacus
from fedlite.base.errors import FedliteError, UsageError
from fedlite.privacy.layers import described, instead_of

ExampleLosses = Callable[[nn.Module, Tensor], Tensor]
"""(model, rows (n,)) -> losses (n,): the loss of row i depends on example i alone (rule 6)."""

PHYSICAL_BATCH_SIZE = 256  # examples in memory at once; does not change the result's meaning

# What Opacus' hooks put on layers with parameters of their own, and on parameters.
_ON_LAYERS = ("activations", "max_batch_len", "ft_compute_sample_grad")
_ON_PARAMETERS = ("grad_sample", "summed_grad", "_current_grad_sample", "_forward_counter")
_HANDLES = "autograd_grad_sample_hooks"  # on the model


class GradientError(FedliteError):
    """A batch without exactly one gradient of ``parameter`` for each example: nothing is released.

    ``reason`` says what there was instead.
    """

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"student: parameter '{parameter}' {reason}")
        self.parameter, self.reason = parameter, reason


@dataclass(frozen=True)
class ClippedSum:
    """A sum over the examples of a batch, one tensor for each trained parameter.

    ``sensitivity`` is the most, in L2 norm over all tensors together, by which adding or removing
    one example moves ``value``. Noise is measured in it (:func:`fedlite.privacy.noise.add_noise`),
    so that what was clipped and what is added cannot come apart.
    """

    value: tuple[Tensor, ...]
    sensitivity: float


class GradientEngine(Protocol):
    """Makes the clipped sums of one model under one loss; a context that leaves nothing behind."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take off the model whatever the engine put there."""

    def clipped_sum(self, rows: Tensor) -> ClippedSum:
        """The sum over ``rows`` (n,), n of 0 or more, of gradients cut to the max grad norm.

        Non-finite gradients count as zero. The tensors come in the order of the model's trained
        parameters. A batch of nobody is zero without a forward pass: no layer has to bear it.

        Raises:
            GradientError: the batch has not exactly one gradient for each example.
        """

    def clipped_sums(self, rows: Tensor, counts: Sequence[int]) -> Sequence[ClippedSum]:
        """:meth:`clipped_sum` of each group of consecutive ``rows`` (n,), but for rounding.

        Args:
            counts: lengths of the groups, 0 or more each, n together.

        Raises:
            GradientError: as of one sum; none is made then.
        """


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that a step moves."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def physical_parts(rows: Tensor, size: int | None = None) -> tuple[Tensor, ...]:
    """``rows`` in parts of at most ``size`` (null: :data:`PHYSICAL_BATCH_SIZE`), none of nobody."""
    parts = math.ceil(len(rows) / (size or PHYSICAL_BATCH_SIZE))
    return rows.chunk(parts) if parts else ()


class Clipper(DPOptimizer):  # type: ignore[misc]
    """Opacus' clipping, with gradients that are not finite set to zero first (rule 8)."""

    def clip_and_accumulate(self) -> None:
        for parameter in self.params:
            torch.nan_to_num_(parameter.grad_sample, nan=0.0, posinf=0.0, neginf=0.0)
        super().clip_and_accumulate()


def trained_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers with trained parameters of their own, by name: those that engines hook."""
    return {
        name: module
        for name, module in model.named_modules()
        if any(one.requires_grad for one in module.parameters(recurse=False))
    }


def checked_layers(model: nn.Module) -> list[nn.Module]:
    """The layers with trained parameters of their own, in the order of the model.

    Raises:
        UsageError: of a layer on which Opacus' hooks are known to fail, or to be wrong; names it,
            and what to use instead.
    """
    layers = trained_layers(model)
    for name, layer in layers.items():
        _check_layer(name, layer)
    return list(layers.values())


def _check_layer(name: str, layer: nn.Module) -> None:
    who = f"student: {described(name, layer)}"
    if taken := [mark for mark in _ON_LAYERS if hasattr(layer, mark)]:
        raise UsageError(
            f"{who} has an attribute '{taken[0]}', a name that Opacus keeps for itself; choose"
            " another name"
        )
    if held := [buffer for buffer, _ in layer.named_buffers()]:
        raise UsageError(
            f"{who} has trained parameters of its own beside the buffer '{held[0]}', which Opacus"
            " does not serve; keep parameters and buffers in modules of their own, or the buffer as"
            " a plain attribute"
        )
    for option, harmless in (("padding_mode", "zeros"), ("padding_idx", None)):
        if (value := getattr(layer, option, harmless)) != harmless:
            raise UsageError(
                f"{who}: Opacus computes other gradients than autograd with {option}={value!r};"
                f" {instead_of(layer)}"
            )


def _as_opacus_reads(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Images with their channels first in memory: of others Opacus 1.6 confuses the strides, and
    answers wrong gradients without a word."""
    return tuple(one.contiguous() for one in inputs)


class HookedEngine(ABC):
    """An engine that puts hooks on a model, and takes all of them off again, whatever happens.

    ``physical_batch_size`` is the number of examples in memory at once.

    Raises:
        UsageError: on entering, of a layer that Opacus is known not to serve.
    """

    def __init__(
        self,
        model: nn.Module,
        example_losses: ExampleLosses,
        max_grad_norm: float,
        physical_batch_size: int | None = None,
    ) -> None:
        self._model, self._example_losses = model, example_losses
        self._max_grad_norm, self._physical_batch_size = max_grad_norm, physical_batch_size
        self._undo = ExitStack()  # of what was put on

    def __enter__(self) -> Self:
        layers = checked_layers(self._model)
        with ExitStack() as broken_off:
            broken_off.callback(self._clean)
            self._put_on(layers)
            broken_off.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clean()

    @abstractmethod
    def clipped_sum(self, rows: Tensor) -> ClippedSum:
        """As :class:`GradientEngine` says."""

    def clipped_sums(self, rows: Tensor, counts: Sequence[int]) -> Sequence[ClippedSum]:
        """As :class:`GradientEngine` says: one group after the other."""
        return [self.clipped_sum(group) for group in torch.split(rows, list(counts))]

    @abstractmethod
    def _put_on(self, layers: Sequence[nn.Module]) -> None:
        """Hook the model, of which ``layers`` have trained parameters of their own."""

    def _clean(self) -> None:
        """Take everything off the model, also after half a start."""
        self._undo.close()


class OpacusHooks(HookedEngine):
    """Per-example gradients by Opacus' hooks, clipped by Opacus' optimizer."""

    def __init__(
        self,
        model: nn.Module,
        example_losses: ExampleLosses,
        max_grad_norm: float,
        physical_batch_size: int | None = None,
    ) -> None:
        super().__init__(model, example_losses, max_grad_norm, physical_batch_size)
        self._clipper = Clipper(
            torch.optim.SGD(trained_parameters(model), lr=0.0),  # holds parameters, never steps
            noise_multiplier=0.0,
            max_grad_norm=max_grad_norm,
            expected_batch_size=1,
            loss_reduction="sum",
        )

    def _put_on(self, layers: Sequence[nn.Module]) -> None:
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                self._undo.callback(layer.register_forward_pre_hook(_as_opacus_reads).remove)
        GradSampleHooks(self._model, loss_reduction="sum")

    def clipped_sum(self, rows: Tensor) -> ClippedSum:
        """As :class:`GradientEngine` says."""
        self._forget()
        for part in physical_parts(rows, self._physical_batch_size):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                torch.autograd.backward(self._example_losses(self._model, part).sum())
            self._check_lengths(len(part))
            self._clipper.clip_and_accumulate()
            for parameter in self._clipper.params:
                parameter.grad_sample = None
        value = tuple(
            torch.zeros_like(parameter) if parameter.summed_grad is None else parameter.summed_grad
            for parameter in self._clipper.params
        )
        return ClippedSum(value, float(self._max_grad_norm))

    def _check_lengths(self, count: int) -> None:
        """One gradient for each example and each parameter, before any of them is added up."""
        for name, parameter in self._model.named_parameters():
            if not parameter.requires_grad:
                continue
            found = getattr(parameter, "grad_sample", None)
            if found is None:
                raise GradientError(
                    name, "takes no part in the output, or not by a call of its layer"
                )
            if isinstance(found, list):
                raise GradientError(name, "is used in several backward passes of one batch")
            if tuple(found.shape) != (count, *parameter.shape):
                raise GradientError(
                    name, f"has gradients of {len(found)} rows for {count} examples"
                )

    def _forget(self) -> None:
        for parameter in self._clipper.params:
            parameter.grad = parameter.grad_sample = parameter.summed_grad = None

    def _clean(self) -> None:
        """Take everything off the model, also what a broken-off batch or half a start left there.

        Opacus' own cleanup knows neither what a forward without its backward leaves nor a start
        that failed.
        """
        super()._clean()
        for handle in vars(self._model).pop(_HANDLES, ()):
            handle.remove()
        for layer in trained_layers(self._model).values():
            for mark in _ON_LAYERS:
                vars(layer).pop(mark, None)
        for parameter in self._model.parameters():
            parameter.grad = None
            for mark in _ON_PARAMETERS:
                vars(parameter).pop(mark, None)


class Engine(Protocol):
    """Makes an engine, to be entered."""

    def __call__(
        self,
        model: nn.Module,
        example_losses: ExampleLosses,
        max_grad_norm: float,
        physical_batch_size: int | None = None,
        /,
    ) -> GradientEngine: ...
