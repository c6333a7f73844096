"""What DP-SGD refuses: models and losses in which one example touches another's answer."""

import copy
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.privacy.gradient_probe import RANDOM, TOLERANCE, NoDropout, explained
from fedlite.privacy.layers import MIXING, described, instead_of

SEEDS = (0, 1, 2)  # of the weights and inputs that a model is tried with
SCALES = (1.0, 10.0, 0.1, 3.0)  # of the inputs of one trial


class Examples(Protocol):
    """Inputs that a model takes, made up: what a task can draw of its own kind."""

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` random inputs."""


def made_up(examples: Examples, seed: int) -> Tensor:
    """Inputs of one trial, of one size each: (len(SCALES), ...)."""
    inputs = examples.random(len(SCALES), torch.Generator().manual_seed(seed))
    if not inputs.is_floating_point():
        return inputs
    return inputs * torch.tensor(SCALES).reshape(-1, *[1] * (inputs.ndim - 1))


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """A copy of ``model`` with other weights, so that nothing hides behind a layer of zeros.

    All that travels is moved, frozen parameters and float buffers too: a server may send them with
    any values. Each tensor is moved by about its own size; where it is zero, by the usual size of
    initial weights.
    """
    generator = torch.Generator().manual_seed(seed)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in moved.parameters():
            usual = max(1, parameter[:1].numel()) ** -0.5 if parameter.ndim > 1 else 0.2
            size = float(parameter.square().mean().sqrt()) if parameter.numel() else 0.0
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((size or usual) * noise.to(parameter.dtype) / 2)
        travels = moved.state_dict()
        for name, buffer in moved.named_buffers():
            if name in travels and buffer.is_floating_point():
                grown = torch.rand(buffer.shape, generator=generator).to(buffer.dtype)
                buffer.mul_(1 + grown / 2).add_(grown / 10)
    return moved


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


def check_rows(model: nn.Module, examples: Examples, who: str, *, modes: Sequence[bool]) -> None:
    """The answer to every example is the same alone as in a batch; nothing of the model moves.

    Args:
        model: left as it is.
        examples: what it takes.
        who: names it in the error.
        modes: of training mode; dropout lets everything pass.

    Raises:
        UsageError: names the effect, or the layer that fails.
    """
    for seed in SEEDS:
        with explained(model, who):
            probe = randomised(model, seed)
        inputs = made_up(examples, seed)
        for training in modes:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                _check_rows(probe.train(training), inputs, who)


def _check_rows(probe: nn.Module, inputs: Tensor, who: str) -> None:
    """In the mode and at the weights that ``probe`` has."""
    before = {name: value.clone() for name, value in _arrays(probe).items()}
    parts = (inputs[:1], inputs[1:2], inputs[2:])
    with explained(probe, who), NoDropout(), torch.no_grad():
        together = probe(inputs)
        again = probe(inputs)
        apart = torch.cat([probe(part) for part in parts])
    for name, value in _arrays(probe).items():
        if not torch.equal(value, before[name]):
            raise UsageError(
                f"{who}: '{name}' changes in a forward pass; under differential privacy nothing may"
                " follow private data but by noised steps"
            )
    if not _equal_rows(together, again):
        raise UsageError(f"{who}: its output {RANDOM}")
    if together.shape != apart.shape or not _equal_rows(together, apart):
        raise UsageError(
            f"{who}: the output of one example depends on the others in its batch; this breaks"
            " the clipping of single examples (use nn.GroupNorm, no batch statistics)"
        )


def _arrays(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those outside the state too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _equal_rows(one: Tensor, other: Tensor) -> bool:
    """Whether rows agree within the tolerance of their own size; values that are not finite too."""
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

    Every row is tried alone and in batches, at several made-up answers of several sizes.

    Args:
        losses: (student's values (n, widths[0]), labels (n,), teacher's values (n, widths[1])) ->
            losses (n,): a loss with all that it sees of an example in one row.
        widths: numbers in a row, of the student and of the teacher.
        classes: labels are below this.
        option: what names the loss in the error.

    Raises:
        UsageError: the loss looks across rows, gives no gradient, or not one value for each row.
    """
    rows = len(SCALES)
    labels = torch.arange(rows) % classes
    scales = torch.tensor(SCALES)[:, None]

    def found(some: slice) -> tuple[Tensor, Tensor]:
        leaf = student[some].clone().requires_grad_()
        values = losses(leaf, labels[some], teacher[some])
        if values.shape != labels[some].shape:
            raise UsageError(
                f"{option}: answers shape {tuple(values.shape)} for {len(leaf)} examples; a loss"
                f" gives one value for each, ({len(leaf)},)"
            )
        if not values.requires_grad:
            raise UsageError(f"{option}: no gradient reaches the student's answers")
        (gradient,) = torch.autograd.grad(values.sum(), leaf, materialize_grads=True)
        return values.detach(), gradient

    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        student = scales * torch.randn((rows, widths[0]), generator=generator)
        teacher = scales.flip(0) * torch.randn((rows, widths[1]), generator=generator)
        single = zip(*(found(slice(row, row + 1)) for row in range(rows)), strict=True)
        value, gradient = map(torch.cat, single)
        for some in (slice(0, rows), slice(1, 3)):
            values, gradients = found(some)
            if not (
                _equal_rows(values[:, None], value[some, None])
                and _equal_rows(gradients, gradient[some])
            ):
                raise UsageError(
                    f"{option}: the loss of one example depends on other rows of the batch, which"
                    " breaks the clipping of single examples (privacy rule 6); use"
                    " distill.loss=soft or privacy=none"
                )
        if not gradient.any():
            raise UsageError(f"{option}: no gradient reaches the student's answers")
