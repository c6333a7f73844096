"""What DP-SGD refuses: models and losses in which one example touches another's answer."""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlite.base.compute import device_of
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.seeded import seeded
from fedlite.privacy.gradient_probe import (
    RANDOM,
    TOLERANCE,
    explained,
    first_line,
)
from fedlite.privacy.layers import MIXING, described, instead_of
from fedlite.privacy.no_dropout import without_dropout
from fedlite.privacy.trials import (
    FEW,
    MANY,
    REDRAWN_SEEDS,
    SCALES,
    SEEDS,
    Examples,
    made_up,
    made_up_labels,
    made_up_many,
    made_up_many_labels,
    parts_of_made_up,
    parts_of_many,
    randomised,
    redrawn,
)

Asked = Callable[[nn.Module, Tensor], Sequence[Tensor]]
"""(model, inputs (n, ...)) -> what it answers, each (n, ...)."""

MIXED = (
    "the output of one example depends on the others in its batch; this breaks the clipping of"
    " single examples (use nn.GroupNorm, no batch statistics)"
)
ROUNDED = (
    "rounding alone changes the output of one example with the length of its batch; use smaller"
    " weights or factors, such as the 30 of sin(30 x), or normalise before them (nn.LayerNorm)"
)
_AGAIN = 4  # times that a model is asked the same, to tell what is random from what is mixed


def forward_alone(model: nn.Module, inputs: Tensor) -> Sequence[Tensor]:
    """The model's output, and nothing else."""
    return (model(inputs),)


def check_private_model(model: nn.Module, examples: Examples) -> None:
    """Refuse batch statistics, and whatever a forward pass changes.

    Types catch what is known (BatchNorm in any form, fake quantization, tracked InstanceNorm,
    embeddings with a largest norm); a trial catches the rest: the answer to an example is the same
    alone as in a batch, and a forward pass leaves every parameter and buffer exactly as it was.

    Raises:
        UsageError: names the layer or the effect, and what to use instead.
    """
    for name, module in model.named_modules():
        tracked = isinstance(module, nn.modules.instancenorm._InstanceNorm) and (
            module.track_running_stats
        )
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm:
            raise UsageError(
                f"student: {described(name, module)} with max_norm changes its weights wherever an"
                f" example uses them, without noise; {instead_of(module)}"
            )
        if isinstance(module, MIXING) or tracked:
            raise UsageError(
                f"student: {described(name, module)} mixes examples or keeps statistics of private"
                f" data; {instead_of(module)} under differential privacy"
            )
    check_rows(model, examples, "student", modes=(True, False))


def check_rows(
    model: nn.Module,
    examples: Examples,
    who: str,
    *,
    modes: Sequence[bool],
    asked: Asked = forward_alone,
    seeds: Sequence[int] = SEEDS,
    redrawn_seeds: Sequence[int] = REDRAWN_SEEDS,
) -> None:
    """The answer to every example is the same alone as in a batch; nothing of the model moves.

    At weights near the model's own, and at weights drawn anew, with modes by turns; examples come
    alone, in threes and fives, and all together.

    Args:
        model: left as it is.
        examples: what it takes.
        who: names it in the error.
        modes: of training mode; dropout lets everything pass.
        asked: what is asked of it.
        seeds: of weights near its own.
        redrawn_seeds: of weights drawn anew.

    Raises:
        UsageError: names the effect, or the layer that fails.
    """
    draws = [*((randomised, seed) for seed in seeds), *((redrawn, seed) for seed in redrawn_seeds)]
    for draw, seed in draws:
        with explained(model, who):
            probe = draw(model, seed).train(modes[seed % len(modes)])
        check_rows_here(probe, made_up(examples, seed), who, asked, parts_of_made_up(seed))


def check_many_rows(
    model: nn.Module, examples: Examples, who: str, asked: Asked = forward_alone
) -> None:
    """The answers in evaluation are the same in a large batch as in a smaller one and in small
    ones.

    Args:
        model, examples, who, asked: as of :func:`check_rows`, which has tried single rows.

    Raises:
        UsageError: names the effect, or the layer that fails.
    """
    with explained(model, who):
        probe = randomised(model, SEEDS[0]).eval()
    check_rows_here(probe, made_up_many(examples, MANY), who, asked, parts_of_many())


def check_rows_here(
    model: nn.Module, inputs: Tensor, who: str, asked: Asked, parts: Sequence[Tensor]
) -> None:
    """:func:`check_rows` in the mode and at the weights that ``model`` has.

    Args:
        inputs: (n, ...), made up.
        parts: rows that come together; their answers are compared with those of all at once.

    Raises:
        UsageError: names the effect, or the layer that fails.
    """
    before = {name: value.clone() for name, value in _arrays(model).items()}
    batches = [torch.arange(len(inputs)), *parts]
    found = _answers(model, [inputs[rows] for rows in batches], who, asked)
    for name, value in _arrays(model).items():
        if not torch.equal(value, before[name]):
            raise UsageError(
                f"{who}: '{name}' changes in a forward pass; under differential privacy nothing may"
                " follow private data but by noised steps"
            )
    for answers in zip(*found, strict=True):
        for rows, answer in zip(batches, answers, strict=True):
            if len(answer) != len(rows):
                raise UsageError(
                    f"{who}: answers {len(answer)} rows for {len(rows)} examples; let dimension 0"
                    " of every output and of every feature that a loss taps be the examples of the"
                    " batch"
                )
        whole, *apart = answers
        if all(_equal_rows(whole[rows], one) for rows, one in zip(parts, apart, strict=True)):
            continue
        again = itertools.chain(*_answers(model, [inputs] * _AGAIN, who, asked))
        if not all(map(_equal_rows, [*found[0]] * _AGAIN, again)):
            raise UsageError(f"{who}: its output {RANDOM}")
        raise UsageError(f"{who}: {ROUNDED if _rounds(model, inputs, parts, asked) else MIXED}")


def _rounds(model: nn.Module, inputs: Tensor, parts: Sequence[Tensor], asked: Asked) -> bool:
    """Whether rounding is what makes answers differ: in float64 they are the same."""
    try:
        precise, inputs = copy.deepcopy(model).double(), inputs.double()
        whole, *apart = _answers(precise, [inputs, *(inputs[rows] for rows in parts)], "", asked)
    except FedliteError:  # it does not compute in float64
        return False
    return all(
        _equal_rows(one[rows], other)
        for rows, answers in zip(parts, apart, strict=True)
        for one, other in zip(whole, answers, strict=True)
    )


def _answers(
    model: nn.Module, batches: Sequence[Tensor], who: str, asked: Asked
) -> list[Sequence[Tensor]]:
    """What is answered to each of ``batches`` without dropout; generators are left as they were."""
    device = device_of(model)
    with seeded(0, device), explained(model, who), torch.no_grad():
        return without_dropout(lambda: [asked(model, inputs) for inputs in batches], device)


def _arrays(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those outside the state too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _equal_rows(one: Tensor, other: Tensor) -> bool:
    """Whether rows agree within the tolerance of their own size; values that are not finite too."""
    if one.shape != other.shape:
        return False
    difference = torch.nan_to_num(one.double() - other.double()).flatten(1).norm(dim=1)
    size = torch.nan_to_num(other.double()).flatten(1).norm(dim=1)
    same = torch.equal(torch.isfinite(one), torch.isfinite(other))
    return same and bool((difference <= TOLERANCE * size + 1e-6).all())


def check_row_separable(
    losses: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    widths: tuple[int, int],
    classes: int,
    option: str = "distill.loss",
) -> None:
    """Refuse a loss in which one row's loss or gradient depends on another row (rule 6).

    Every row is tried alone and in batches, at several made-up answers of several sizes, with
    labels all different, in pairs and all equal; and a large batch against parts of it.

    Args:
        losses: (student's values (n, widths[0]), labels (n,), teacher's values (n, widths[1])) ->
            losses (n,): a loss with all that it sees of an example in one row.
        widths: numbers in a row, of the student and of the teacher.
        classes: labels are below this.
        option: what names the loss in the error.

    Raises:
        UsageError: the loss looks across rows, fails, gives no gradient, or not one value for each
            row.
    """
    rows = 2 * len(SCALES)
    scales = torch.tensor(2 * SCALES)[:, None]
    for seed in SEEDS:
        student, teacher = _made_up_values(rows, widths, seed)
        values = (scales * student, scales.flip(0) * teacher)
        trial = _LossTrial(losses, values, made_up_labels(rows, classes, seed), option)
        trial.check(slice(0, rows), 1)
        trial.check(slice(1, 3), 1)
    trial = _LossTrial(
        losses,
        _made_up_values(MANY, widths, MANY),
        made_up_many_labels(MANY, classes),
        option,
    )
    trial.check(slice(0, FEW), len(SCALES))
    trial.check(slice(0, MANY), FEW)


def _made_up_values(rows: int, widths: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Of student and teacher; two rows are equal."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn((rows, width), generator=generator) for width in widths)
    student[-1], teacher[-1] = student[-2], teacher[-2]
    return student, teacher


@dataclass(frozen=True)
class _LossTrial:
    """A loss, and made-up answers of student and teacher with their labels."""

    losses: Callable[[Tensor, Tensor, Tensor], Tensor]
    answers: tuple[Tensor, Tensor]
    labels: Tensor
    option: str

    def check(self, some: slice, part: int) -> None:
        """The losses and gradients of ``some`` rows at once are those of ``part`` at a time."""
        starts = range(some.start, some.stop, part)
        parts = [self._found(slice(at, min(at + part, some.stop))) for at in starts]
        value, gradient = map(torch.cat, zip(*parts, strict=True))
        values, gradients = self._found(some)
        if not (_equal_rows(values[:, None], value[:, None]) and _equal_rows(gradients, gradient)):
            raise UsageError(
                f"{self.option}: the loss of one example depends on other rows of the batch, which"
                " breaks the clipping of single examples (privacy rule 6); use distill.loss=soft or"
                " privacy=none"
            )
        if not gradient.any():
            raise UsageError(f"{self.option}: no gradient reaches the student's answers")

    def _found(self, some: slice) -> tuple[Tensor, Tensor]:
        """Losses and gradients of rows that are given to the loss together."""
        student, teacher = (values[some] for values in self.answers)
        leaf, labels = student.clone().requires_grad_(), self.labels[some]
        try:
            values = self.losses(leaf, labels, teacher)
        except FedliteError:
            raise
        except Exception as error:  # of foreign code: any kind
            raise UsageError(
                f"{self.option}: fails in a trial on made-up answers to {len(labels)} examples:"
                f" {first_line(error)}; a loss takes logits and tapped features as the networks"
                " give them, and labels below the number of classes, or distill.loss=soft"
            ) from error
        if not isinstance(values, Tensor) or values.shape != labels.shape:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise UsageError(
                f"{self.option}: answers shape {shape} for {len(leaf)} examples; a loss"
                f" gives one value for each, ({len(leaf)},)"
            )
        if not values.requires_grad:
            raise UsageError(f"{self.option}: no gradient reaches the student's answers")
        (gradient,) = torch.autograd.grad(values.sum(), leaf, materialize_grads=True)
        return values.detach(), gradient
