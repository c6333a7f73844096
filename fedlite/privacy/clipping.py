"""The clipped sum: gradients of single examples, each cut to a norm, added up.

A gradient engine makes it, and is the seam for faster ones: every engine is held to the same tests
(``tests/privacy/test_rule_08_sensitivity.py`` runs over :data:`ENGINES`). What a loss is, an engine
does not know: it is given a function from rows to losses, one for each row.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

ExampleLosses = Callable[[nn.Module, Tensor], Tensor]
"""(model, rows (n,)) -> losses (n,): the loss of row i depends on example i alone (rule 6)."""

PHYSICAL_BATCH_SIZE = 256  # examples in memory at once; does not change the result's meaning


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
        parameters.
        """


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that a step moves."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def physical_parts(rows: Tensor) -> tuple[Tensor, ...]:
    """``rows`` in parts that fit in memory; one empty part where there are none."""
    parts = max(1, math.ceil(len(rows) / PHYSICAL_BATCH_SIZE))
    return rows.chunk(parts) if parts > 1 else (rows,)


class Clipper(DPOptimizer):  # type: ignore[misc]
    """Opacus' clipping, with gradients that are not finite set to zero first (rule 8)."""

    def clip_and_accumulate(self) -> None:
        for parameter in self.params:
            torch.nan_to_num_(parameter.grad_sample, nan=0.0, posinf=0.0, neginf=0.0)
        super().clip_and_accumulate()


class OpacusHooks:
    """Per-example gradients by Opacus' hooks, clipped by Opacus' optimizer."""

    def __init__(
        self, model: nn.Module, example_losses: ExampleLosses, max_grad_norm: float
    ) -> None:
        self._model, self._example_losses = model, example_losses
        self._clipper = Clipper(
            torch.optim.SGD(trained_parameters(model), lr=0.0),  # holds parameters, never steps
            noise_multiplier=0.0,
            max_grad_norm=max_grad_norm,
            expected_batch_size=1,
            loss_reduction="sum",
        )
        self._hooks: GradSampleHooks | None = None

    def __enter__(self) -> Self:
        self._hooks = GradSampleHooks(self._model, loss_reduction="sum")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget()
        if self._hooks is not None:
            self._hooks.cleanup()

    def clipped_sum(self, rows: Tensor) -> ClippedSum:
        """As :class:`GradientEngine` says."""
        self._forget()
        for part in physical_parts(rows):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                torch.autograd.backward(self._example_losses(self._model, part).sum())
            self._clipper.clip_and_accumulate()
            for parameter in self._clipper.params:
                parameter.grad_sample = None
        value = tuple(parameter.summed_grad for parameter in self._clipper.params)
        return ClippedSum(value, float(self._clipper.max_grad_norm))

    def _forget(self) -> None:
        for parameter in self._clipper.params:
            parameter.grad = parameter.grad_sample = parameter.summed_grad = None


Engine = Callable[[nn.Module, ExampleLosses, float], GradientEngine]
"""(model, example losses, max grad norm) -> an engine, to be entered."""

ENGINES: Mapping[str, Engine] = {"opacus": OpacusHooks}
