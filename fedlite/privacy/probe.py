"""What DP-SGD refuses: models and losses in which one example touches another's gradient."""

import copy
import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from opacus.grad_sample import GradSampleHooks
from torch import Tensor, nn

from fedlite.base.errors import UsageError

_MIXING = (
    nn.modules.batchnorm._BatchNorm,
    nn.SyncBatchNorm,
    torch.ao.quantization.FakeQuantizeBase,
)


class Examples(Protocol):
    """Inputs that a model takes, made up: what a task can draw of its own kind."""

    def blank(self, count: int) -> Tensor:
        """``count`` equal inputs of no content."""

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` random inputs."""


def check_private_model(model: nn.Module, examples: Examples) -> None:
    """Refuse batch statistics, buffers that training changes, and layers Opacus cannot serve.

    Types catch what is known (BatchNorm in any form, fake quantization, tracked InstanceNorm); a
    probe in training mode catches the rest: changing one row of a batch must leave the outputs
    of the other rows, and a forward pass must leave every buffer, exactly as they were.

    Raises:
        UsageError: names the layer or the effect, and what to use instead.
    """
    for name, module in model.named_modules():
        tracked = isinstance(module, nn.modules.instancenorm._InstanceNorm) and (
            module.track_running_stats
        )
        if isinstance(module, _MIXING) or tracked:
            raise UsageError(
                f"student: layer '{name}' ({type(module).__name__}) mixes examples or keeps"
                " statistics of private data; use GroupNorm under differential privacy"
            )
    _probe_rows(model, examples)
    problems = GradSampleHooks.validate(model, strict=False)
    if problems:
        raise UsageError(f"student: Opacus cannot compute per-example gradients: {problems[0]}")
    _probe_gradients(model, examples)


def _probe_gradients(model: nn.Module, examples: Examples) -> None:
    """Every trained parameter must get per-example gradients; better known before a charge."""
    probe = copy.deepcopy(model).train()
    GradSampleHooks(probe, loss_reduction="sum")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        torch.autograd.backward(probe(examples.blank(2)).sum())
    for name, parameter in probe.named_parameters():
        if parameter.requires_grad and getattr(parameter, "grad_sample", None) is None:
            raise UsageError(f"student: parameter '{name}' takes no part in the output")


def _probe_rows(model: nn.Module, examples: Examples) -> None:
    was_training = model.training
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    rows = examples.random(4, generator)
    changed = rows.clone()
    changed[0] = 10 * examples.random(1, generator)[0]
    model.train()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same dropout masks in both passes
            before = model(rows)
            torch.manual_seed(0)
            after = model(changed)
        moved = [k for k, v in model.state_dict().items() if not torch.equal(v, state[k])]
    finally:
        model.load_state_dict(state)
        model.train(was_training)
    if moved:
        raise UsageError(
            f"student: buffer '{moved[0]}' changes in a forward pass; under differential privacy"
            " no buffer may follow private data"
        )
    if not torch.allclose(before[1:], after[1:], rtol=1e-4, atol=1e-5):
        raise UsageError(
            "student: the output of one example depends on the others in its batch; this breaks"
            " the clipping of single examples (use GroupNorm, no batch statistics)"
        )


def check_row_separable(
    losses: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    widths: tuple[int, int],
    classes: int,
    option: str = "distill.loss",
) -> None:
    """Refuse a loss in which one row's gradient depends on another row (rule 6).

    Args:
        losses: (student's values (n, widths[0]), labels (n,), teacher's values (n, widths[1])) ->
            losses (n,): a loss with all that it sees of an example in one row.
        widths: numbers in a row, of the student and of the teacher.
        classes: labels are below this.
        option: what names the loss in the error.

    Raises:
        UsageError: the loss looks across rows.
    """
    generator = torch.Generator().manual_seed(0)
    rows = 4
    labels = torch.arange(rows) % classes
    teacher = torch.randn((rows, widths[1]), generator=generator)
    student = torch.randn((rows, widths[0]), generator=generator)
    changed_student, changed_teacher = student.clone(), teacher.clone()
    changed_student[0] = 5 * torch.randn(widths[0], generator=generator)
    changed_teacher[0] = 5 * torch.randn(widths[1], generator=generator)

    def gradient_of(values: Tensor, taught: Tensor) -> Tensor:
        leaf = values.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(losses(leaf, labels, taught).sum(), leaf)
        return gradient

    before = gradient_of(student, teacher)
    after = gradient_of(changed_student, changed_teacher)
    if not torch.allclose(before[1:], after[1:], rtol=1e-5, atol=1e-6):
        raise UsageError(
            f"{option}: the loss of one example depends on other rows of the batch, which breaks"
            " the clipping of single examples (privacy rule 6); use distill.loss=soft or"
            " privacy=none"
        )
