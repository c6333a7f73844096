"""The proof before a charge: an engine's clipped sums against autograd, one example at a time.

The bound of DP-SGD rests on one gradient for each example that no other example touches. Which
layers give it is not a question of their types: the student itself is tried, with its own loss.
"""

import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.foreign import FAILURES, log_of
from fedlite.privacy.clipping import (
    ClippedSum,
    Engine,
    ExampleLosses,
    GradientError,
    trained_parameters,
)
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.layers import described, instead_of
from fedlite.privacy.no_dropout import NoDropout

LONGEST_REASON = 160  # characters of what a library says
TOLERANCE = 3e-4  # of the norm of the whole gradient; rounding reached 1e-5

UNCLIPPED = 1e6  # a clip norm above every gradient of a trial at inputs of the usual size

MIXED = (
    "student: the gradient of one example depends on the others in its batch, which breaks the"
    " clipping of single examples; let no layer and no loss look across dimension 0, nor at its"
    " length, keep nothing between batches (use nn.GroupNorm, no batch statistics), and compute in"
    " float32, since autocast rounds the gradients of a batch and of one example differently"
)
RANDOM = (
    "changes from one pass to the next although dropout is off, by random draws or by what is kept"
    " between batches; draw with nn.Dropout alone, and keep nothing"
)

Gradients = tuple[Tensor, ...]
"""One tensor for each trained parameter."""


@contextmanager
def explained(model: nn.Module, who: str = "student") -> Iterator[None]:
    """Whatever a network of unforeseen shape raises, as one line with the layer and a way out.

    Raises:
        UsageError: the work inside failed.
    """
    try:
        yield
    except GradientError as error:
        name = error.parameter.rpartition(".")[0]
        layer = model.get_submodule(name)
        raise UsageError(
            f"{who}: {described(name, layer)}: parameter '{error.parameter}' {error.reason};"
            f" {instead_of(layer)}"
        ) from error
    except FedliteError:
        raise
    except FAILURES as error:
        log_of(f"{who}: a trial failed", error)
        name = _raised_in(model, error)
        layer = model.get_submodule(name)
        raise UsageError(
            f"{who}: {described(name, layer)} fails in a trial on made-up examples:"
            f" {first_line(error)}; {instead_of(layer, str(error))}"
        ) from error


def first_line(error: BaseException) -> str:
    """What foreign code said when it failed, in one line that is not too long."""
    return (str(error).strip() or repr(error)).splitlines()[0][:LONGEST_REASON]


def _raised_in(model: nn.Module, error: BaseException) -> str:
    """The path of the innermost layer of ``model`` that was running when ``error`` was raised.

    Read off the traceback: a forward has the layer as ``self``, Opacus' hooks as ``module`` or
    ``layer``. The model itself ("") where no layer was running.
    """
    names = {module: name for name, module in model.named_modules()}
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for variable in ("self", "module", "layer"):
            running = frame.f_locals.get(variable)
            if isinstance(running, nn.Module):
                found = names.get(running, found)
    return found


def check_gradients(
    model: nn.Module,
    example_losses: ExampleLosses,
    num_examples: int,
    seed: int,
    engines: Mapping[str, Engine] = ENGINES,
) -> None:
    """Refuse a model whose clipped sums are not those of one gradient after another.

    At the weights that ``model`` has, in training mode, for every engine: the sums over nobody,
    and over three examples in physical parts of two and of one. By turns of the seed no gradient is
    clipped, some are, or all. Dropout is let pass for this, since one example alone would draw
    another mask than in its batch; with dropout, an engine is held to autograd's gradients in the
    same batch.

    Args:
        model: what a step moves.
        example_losses: the run's own loss on ``num_examples`` made-up examples, four or more.
        seed: of dropout, and of the clip's turn.
        engines: by name.

    Raises:
        UsageError: names the layer, and what to use instead.
        GradientError: an engine found not one gradient for each example.
    """
    model.train()
    trial = _Trial(model, example_losses, torch.arange(num_examples), seed)
    if not trial.is_random():
        trial.check_single_examples(engines)
        return
    with NoDropout():
        if trial.is_random():
            raise UsageError(f"student: its loss {RANDOM}")
        trial.check_single_examples(engines)
    trial.check_under_dropout(engines)


def check_large_batches(
    model: nn.Module,
    example_losses: ExampleLosses,
    num_examples: int,
    parts: Sequence[Tensor],
    engine: Engine,
) -> None:
    """Refuse a model or a loss that treats an example in a large batch in another way.

    At the weights that ``model`` has, in training mode, without dropout: the losses of all examples
    at once are those of ``parts`` of them, and so is the sum of the gradients of these examples in
    one smaller batch, with no gradient clipped.

    Args:
        model: what a step moves.
        example_losses: the run's own loss on ``num_examples`` made-up examples.
        parts: rows, a few at a time; together they are the smaller batch.
        engine: for the sum.

    Raises:
        UsageError: names the effect, and what to use instead.
        GradientError: the engine found not one gradient for each example.
    """
    model.train()
    with NoDropout():
        _Trial(model, example_losses, torch.arange(num_examples), seed=0).check_parts(parts, engine)


def check_mixing(model: nn.Module, example_losses: ExampleLosses, num_examples: int) -> None:
    """Refuse a model that lets the gradients of a batch touch each other, at the weights it has.

    In training mode, without dropout, by autograd alone: the losses and the summed gradient of all
    examples are those of one alone and of the rest.

    Args:
        model: what a step moves.
        example_losses: the run's own loss on ``num_examples`` made-up examples, two or more.

    Raises:
        UsageError: they are not.
    """
    model.train()
    rows = torch.arange(num_examples)
    with NoDropout():
        _Trial(model, example_losses, rows, seed=0).check_mixing((rows[:1], rows[1:]))


@dataclass(frozen=True)
class _Trial:
    """A model at some weights, and its losses on made-up examples ``every``."""

    model: nn.Module
    example_losses: ExampleLosses
    every: Tensor
    seed: int

    def check_single_examples(self, engines: Mapping[str, Engine]) -> None:
        """Every engine against the gradients of each example alone."""
        rows = self.every
        alone = [_gradients(self.model, self._losses(rows[i : i + 1])) for i in range(len(rows))]
        clip = self._clip(alone)
        for name, engine in engines.items():
            batches = [rows[-3:], rows[:0]]
            with engine(self.model, self.example_losses, clip, 2) as made:
                sums = [made.clipped_sum(some) for some in batches]
            for some, found in zip(batches, sums, strict=True):
                self._compare(found, alone, some, clip, name)

    def check_under_dropout(self, engines: Mapping[str, Engine]) -> None:
        """Every engine against autograd's gradients in the same batch, under the same masks."""
        for name, engine in engines.items():
            torch.manual_seed(self.seed)
            masked = self._in_one_batch()
            clip = self._clip(masked)
            with engine(self.model, self.example_losses, clip) as made:
                torch.manual_seed(self.seed)
                found = made.clipped_sum(self.every)
            self._compare(found, masked, self.every, clip, name)

    def check_parts(self, parts: Sequence[Tensor], engine: Engine) -> None:
        """The losses of everybody are those of ``parts``; so is the engine's sum of gradients."""
        with torch.no_grad():
            everybody = self._losses(self.every)
        summed, most = self._in_parts(parts, everybody)
        rows = torch.cat(list(parts))
        with engine(self.model, self.example_losses, UNCLIPPED, len(rows)) as made:
            difference = _norm(_difference(made.clipped_sum(rows).value, summed))
        if difference <= most:
            return
        together = _gradients(self.model, self._losses(rows))
        if _norm(_difference(together, summed)) > most:
            raise UsageError(MIXED)
        raise UsageError(
            f"student: the sum of {len(rows)} examples' gradients differs from autograd's by"
            f" {difference:.2g}; let no layer depend on the length of the batch"
        )

    def check_mixing(self, parts: Sequence[Tensor]) -> None:
        """Autograd's losses and summed gradient of everybody are those of ``parts``."""
        together = self._losses(self.every)
        summed, most = self._in_parts(parts, together.detach())
        if _norm(_difference(_gradients(self.model, together), summed)) > most:
            raise UsageError(MIXED)

    def _in_parts(self, parts: Sequence[Tensor], everybody: Tensor) -> tuple[Gradients, float]:
        """Autograd's gradient of ``parts``, summed, and the most that another sum may differ.

        Raises:
            UsageError: their losses are not those of ``everybody``.
        """
        losses = [self._losses(some) for some in parts]
        if not _agree(everybody[torch.cat(list(parts))], torch.cat(losses).detach()):
            raise UsageError(MIXED)
        single = [_gradients(self.model, one) for one in losses]
        summed = tuple(torch.stack(ones).sum(dim=0) for ones in zip(*single, strict=True))
        most = TOLERANCE * sum(_norm(one) for one in single) + 1e-6 * len(self.every)
        return summed, most if torch.isfinite(everybody).all() else math.inf

    def is_random(self) -> bool:
        """Whether the losses change with the draws, or from one time to the next."""
        with torch.no_grad():
            torch.manual_seed(self.seed)
            once = self._losses(self.every)
            torch.manual_seed(self.seed + 1)
            again = self._losses(self.every)
        return not torch.allclose(once, again, rtol=TOLERANCE, atol=1e-6, equal_nan=True)

    def _losses(self, rows: Tensor) -> Tensor:
        losses = self.example_losses(self.model, rows)
        if losses.shape != rows.shape:
            raise UsageError(
                f"student: its loss has shape {tuple(losses.shape)} for {len(rows)} examples;"
                f" expected ({len(rows)},)"
            )
        return losses

    def _in_one_batch(self) -> list[Gradients]:
        """The gradients of single losses, all taken from one forward pass."""
        return [_gradients(self.model, one, again=True) for one in self._losses(self.every)]

    def _clip(self, gradients: Sequence[Gradients]) -> float:
        """A norm that cuts no gradient, some, or all that are not zero; by turns of the seed."""
        norms = sorted(norm for one in gradients if (norm := _norm(one)) > 0)
        if not norms:
            raise UsageError(
                "student: its loss moves no weight; let the trained parameters take part in the"
                " output, and the loss (distill.loss) in the logits"
            )
        return (2 * norms[-1], norms[len(norms) // 2], norms[0] / 2)[self.seed % 3]

    def _compare(
        self,
        found: ClippedSum,
        gradients: Sequence[Gradients],
        rows: Tensor,
        clip: float,
        engine: str,
    ) -> None:
        """``found`` must be the sum over ``rows`` of ``gradients``, each cut to the norm ``clip``.

        Where it is not, the model may mix examples, or the engine be wrong about a layer: autograd
        in one batch tells.
        """
        model, cut = self.model, [_clipped(gradients[row], clip) for row in rows]
        if found.sensitivity < clip * (1 - 1e-6):
            raise UsageError(
                f"engine {engine}: gradients cut to {clip:g} are said to move its sum by"
                f" {found.sensitivity:g} at most"
            )
        expected = [
            sum((one[i] for one in cut), torch.zeros_like(parameter))
            for i, parameter in enumerate(trained_parameters(model))
        ]
        difference = _difference(found.value, expected)
        scale = sum(_norm(one) for one in cut)
        if _norm(difference) <= TOLERANCE * scale + 1e-6 * len(cut):
            return
        torch.manual_seed(self.seed)
        for one, other in zip(gradients, self._in_one_batch(), strict=True):
            if _norm(_difference(one, other)) > TOLERANCE * _norm(one):
                raise UsageError(MIXED)
        named = [name for name, value in model.named_parameters() if value.requires_grad]
        worst = named[max(range(len(named)), key=lambda i: float(difference[i].norm()))]
        path = worst.rpartition(".")[0]
        layer = model.get_submodule(path)
        share = f"by {_norm(difference) / scale:.2%}" if scale else "where there are no examples"
        raise UsageError(
            f"student: {described(path, layer)}: the gradients of single examples differ from"
            f" autograd's {share}, most in '{worst}' (engine {engine});"
            f" {instead_of(layer)}"
        )


def _agree(one: Tensor, other: Tensor) -> bool:
    """Whether losses are the same but for rounding; those that are not finite too."""
    return torch.allclose(one, other, rtol=TOLERANCE, atol=1e-5, equal_nan=True)


def _gradients(model: nn.Module, losses: Tensor, *, again: bool = False) -> Gradients:
    """Autograd's gradients of the sum of ``losses``; what is not finite counts as zero."""
    parameters = trained_parameters(model)
    if not losses.requires_grad:
        return tuple(torch.zeros_like(parameter) for parameter in parameters)
    found = torch.autograd.grad(
        losses.sum(), parameters, allow_unused=True, materialize_grads=True, retain_graph=again
    )
    return tuple(torch.nan_to_num(one, nan=0.0, posinf=0.0, neginf=0.0) for one in found)


def _clipped(gradients: Gradients, clip: float) -> Gradients:
    factor = min(1.0, clip / (_norm(gradients) + 1e-30))
    return tuple(factor * one for one in gradients)


def _difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> Gradients:
    return tuple(left - right for left, right in zip(one, other, strict=True))


def _norm(tensors: Sequence[Tensor]) -> float:
    """The L2 norm over all tensors together, in float64."""
    return float(torch.stack([one.double().square().sum() for one in tensors]).sum().sqrt())
