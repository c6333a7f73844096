"""Tied weights: one parameter under several names, which must stay one when channels are cut."""

import torch
from torch import Tensor, nn

Ties = tuple[tuple[str, ...], ...]


def ties_of(model: nn.Module) -> Ties:
    """The names of every parameter that has several, in the order of the model."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return tuple(tuple(several) for several in names.values() if len(several) > 1)


def tie(model: nn.Module, ties: Ties) -> tuple[str, ...]:
    """Make one parameter of those that are equal under the names of each tie, in place.

    Returns:
        the names of the first tie whose parameters are not equal; () where all are.
    """
    for names in ties:
        first, *others = (model.get_parameter(name) for name in names)
        if not all(_equal(first, other) for other in others):
            return names
        for name in names[1:]:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, first)
    return ()


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
