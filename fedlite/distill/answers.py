"""What a model answers: logits, and the features that a loss asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Answers:
    """A model's answers on n examples.

    ``logits`` (n, classes); ``features`` by the name of the module whose output they are, each
    (n, ...).
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: Tensor) -> Self:
        """The answers on some of the examples."""
        kept = {name: values[rows] for name, values in self.features.items()}
        return type(self)(self.logits[rows], kept)


def answers_of(model: nn.Module, inputs: Tensor, taps: Sequence[str] = ()) -> Answers:
    """The answers of ``model`` on ``inputs`` (n, ...), in whatever mode it is.

    Args:
        taps: names of modules within ``model``; the output of each is a feature.

    Raises:
        AttributeError: there is no module of such a name.
    """
    features: dict[str, Tensor] = {}

    def keep(name: str) -> None:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            features[name] = output

        handles.append(model.get_submodule(name).register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for name in taps:
            keep(name)
        return Answers(model(inputs), features)
    finally:
        for handle in handles:
            handle.remove()


def taught_answers(
    model: nn.Module, inputs: Tensor, taps: Sequence[str] = (), batch_size: int = 1024
) -> Answers:
    """Answers on ``inputs`` (n, ...) in eval mode without gradients, batch by batch; the mode is
    restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = [answers_of(model, part, taps) for part in torch.split(inputs, batch_size)]
    finally:
        model.train(was_training)
    return Answers(
        torch.cat([part.logits for part in parts]),
        {name: torch.cat([part.features[name] for part in parts]) for name in taps},
    )
