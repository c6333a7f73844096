"""What a model answers: logits, and the features that a loss asks for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from fedlite.base.compute import device_of
from fedlite.models.build import FixedFrontEnd

ANSWERS_AT_ONCE = 128  # examples: what more of them leave in a network does not fit the cache
INPUT = ":input"  # behind a module's name: what it is given, not what it answers


@dataclass(frozen=True)
class Answers:
    """A model's answers on n examples.

    ``logits`` (n, classes); ``features`` (n, ...) by their taps (:mod:`fedlite.distill.taps`).
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: Tensor) -> Self:
        """The answers on some of the examples."""
        kept = {name: values[rows] for name, values in self.features.items()}
        return type(self)(self.logits[rows], kept)

    @classmethod
    def joined(cls, parts: Sequence["Answers"]) -> Self:
        """The answers of one part after the other, one or more, which have the same features."""
        features = {
            name: torch.cat([part.features[name] for part in parts]) for name in parts[0].features
        }
        return cls(torch.cat([part.logits for part in parts]), features)


def answers_of(model: nn.Module, inputs: Tensor, taps: Sequence[str] = ()) -> Answers:
    """The answers of ``model`` on ``inputs`` (n, ...), in whatever mode it is.

    Args:
        taps: names of modules within ``model``, whose output is a feature; with :data:`INPUT`
            behind it, what the module is given.

    Raises:
        AttributeError: there is no module of such a name.
    """
    features: dict[str, Tensor] = {}

    def keep(tap: str) -> None:
        def given(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            features[tap] = args[0]

        def answered(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            features[tap] = output

        module = model.get_submodule(tap.removesuffix(INPUT))
        if tap.endswith(INPUT):
            handles.append(module.register_forward_pre_hook(given))
        else:
            handles.append(module.register_forward_hook(answered))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for tap in taps:
            keep(tap)
        return Answers(model(inputs), features)
    finally:
        for handle in handles:
            handle.remove()


def in_channels_last(model: nn.Module, inputs: Tensor) -> nn.Module:
    """``model``, its convolutions' weights laid out with channels last, for a network that only
    answers: images take a third to a half of the time, and logits move by rounding alone.

    One that fails on ``inputs`` (n, ...) so, such as by a ``view``, is left as it was.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    try:
        taught_answers(model, inputs)
    except RuntimeError:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return model


def front_end_features(
    model: FixedFrontEnd, inputs: Tensor, batch_size: int = ANSWERS_AT_ONCE
) -> Tensor:
    """What the front end of ``model`` makes of ``inputs`` (n, ...), one or more, where the model
    is, batch by batch; the model is left in eval mode."""
    assert isinstance(model, nn.Module)
    device = device_of(model.eval())
    with torch.no_grad():
        return torch.cat(
            [model.features(part.to(device)) for part in torch.split(inputs, batch_size)]
        )


@contextmanager
def training_in_channels_last(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Within, ``model`` is laid out as by :func:`in_channels_last`, which speeds up the training of
    convolutions over images; the weights' layout is torch's own again afterwards."""
    in_channels_last(model, inputs)
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above


def taught_answers(
    model: nn.Module, inputs: Tensor, taps: Sequence[str] = (), batch_size: int = ANSWERS_AT_ONCE
) -> Answers:
    """Answers on ``inputs`` (n, ...), where the model is, in eval mode without gradients, batch by
    batch; the mode is restored."""
    was_training, device = model.training, device_of(model)
    model.eval()
    try:
        with torch.no_grad():
            parts = [
                answers_of(model, part.to(device), taps) for part in torch.split(inputs, batch_size)
            ]
    finally:
        model.train(was_training)
    return Answers.joined(parts)
