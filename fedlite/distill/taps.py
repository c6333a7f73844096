"""Taps: the places inside a network whose values a loss sees, and how they are found.

A tap is the name of a module, whose output it is, or that name with ``:input`` behind it: what the
module is given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlite.base.compute import device_of
from fedlite.base.errors import UsageError
from fedlite.distill.answers import INPUT, answers_of
from fedlite.models.transformer import MultiHeadAttention


@dataclass(frozen=True)
class Between:
    """A student and a teacher, with any weights, and ``inputs`` (n, ...) that both take."""

    student: nn.Module
    teacher: nn.Module
    inputs: Tensor

    def features(self, loss: str, student: Sequence[str], teacher: Sequence[str]) -> "Pairs":
        """What these taps of student and teacher hold on the inputs, pair by pair.

        Raises:
            UsageError: names the ``loss`` and a tap that is not there, or that training does not
                reach.
        """
        own = _features(self.student, self.inputs, student, "student", loss)
        if fixed := [name for name in student if not own[name].requires_grad]:
            raise UsageError(
                f"distill.loss={loss}: nothing that is trained lies before the student's"
                f" '{fixed[0]}'; use a student that learns its features, or distill=soft"
            )
        taught = _features(self.teacher, self.inputs, teacher, "teacher", loss)
        return [(own[one], taught[other]) for one, other in zip(student, teacher, strict=True)]


Pairs = Sequence[tuple[Tensor, Tensor]]
"""Features of the student and of the teacher, each (n, ...)."""

Finder = Callable[[nn.Module, Tensor], str | None]
"""(network, inputs) -> a tap; None where there is none of this kind."""


def check_there(model: nn.Module, who: str, taps: Sequence[str]) -> None:
    """Refuse a tap on a module that ``model`` does not have.

    Raises:
        UsageError: names the network and the module.
    """
    known = {name for name, _ in model.named_modules()}
    for name in (tap.removesuffix(INPUT) for tap in taps):
        if name not in known:
            raise UsageError(f"distill.loss: taps '{name}', which the {who} does not have")


def last_layer(model: nn.Module, inputs: Tensor) -> str | None:
    """What the last linear layer is given: a vector for each example."""
    calls = [name for name, layer, _ in _calls(model, inputs) if isinstance(layer, nn.Linear)]
    return calls[-1] + INPUT if calls else None


def last_maps(model: nn.Module, inputs: Tensor) -> str | None:
    """The last feature maps (n, channels, *places) of convolutions, after their activation.

    Only modules without parameters of their own count. Networks that attend have none: their
    tokens are no maps.
    """
    dims, found = 0, None
    if any(isinstance(module, MultiHeadAttention) for module in model.modules()):
        return None
    for name, layer, output in _calls(model, inputs):
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            dims = output.ndim
            continue
        owns = any(True for _ in layer.parameters(recurse=False))
        if name and not owns and output.ndim == dims and output[0, 0].numel() > 1:
            found = name
    return found


def last_attention(model: nn.Module, inputs: Tensor) -> str | None:
    """The last :class:`~fedlite.models.transformer.MultiHeadAttention`."""
    calls = _calls(model, inputs)
    found = [name for name, layer, _ in calls if isinstance(layer, MultiHeadAttention)]
    return found[-1] if found else None


def placed(
    between: Between, given: tuple[str | None, str | None], find: Finder, loss: str, what: str
) -> tuple[str, str]:
    """The taps of student and teacher: those ``given``, or else found.

    Raises:
        UsageError: a network has none; ``what`` says of what kind.
    """
    found = []
    networks = (("student", between.student, given[0]), ("teacher", between.teacher, given[1]))
    for who, model, name in networks:
        tap = name or find(model, between.inputs)
        if tap is None:
            raise UsageError(
                f"distill.loss={loss}: the {who} ({type(model).__name__}) has no {what}; name a"
                f" layer by distill.{who}_layer, or use distill=soft"
            )
        found.append(tap)
    return found[0], found[1]


def _calls(model: nn.Module, inputs: Tensor) -> list[tuple[str, nn.Module, Tensor]]:
    """Modules in the order in which they are done, each with its name and what it answers."""
    seen: list[tuple[str, nn.Module, Tensor]] = []
    names = {module: name for name, module in model.named_modules()}

    def see(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(output, Tensor):
            seen.append((names[module], module, output))

    handles = [module.register_forward_hook(see) for module in names]
    try:
        _run(model, inputs, ())
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _features(
    model: nn.Module, inputs: Tensor, taps: Sequence[str], who: str, loss: str
) -> Mapping[str, Tensor]:
    check_there(model, who, taps)
    found = _run(model, inputs, taps)
    if missing := [tap for tap in taps if not isinstance(found.get(tap), Tensor)]:
        raise UsageError(
            f"distill.loss={loss}: the {who}'s '{missing[0]}' answers no tensor, or is never called"
        )
    return found


def _run(model: nn.Module, inputs: Tensor, taps: Sequence[str]) -> Mapping[str, Tensor]:
    """What the taps see, with gradients, in eval mode; modes are restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.enable_grad():
            return answers_of(model, inputs.to(device_of(model)), taps).features
    finally:
        for module, mode in modes:
            module.training = mode
