"""Inputs, labels and weights, all made up, that a model, a teacher and a loss are tried with."""

import copy
from typing import Protocol

import torch
from torch import Tensor, nn

SEEDS = (0, 1, 2)  # of weights near the model's own
REDRAWN_SEEDS = (3, 4, 5, 6, 7)  # of weights drawn anew: one for each size below
SIZES = (1.0, -1.0, 3.0, -3.0, 0.0)  # of what is drawn anew
SCALES = (1.0, 10.0, 0.1, 3.0)  # of the first inputs of a trial
WILD = 1e4  # the scale of its last
FEW, MANY = 33, 257  # examples: more than a trial's, and more than a physical batch

_ROWS = len(SCALES) + 5
_PARTS = [1, 3, 5]  # in which the rows of a trial are asked about again
_CHOSEN = ((0, 1, 2, 3), (0, 4, 6, 7), (3, 5, 8, 2))  # of the inputs, by turns of the seed


class Examples(Protocol):
    """Inputs that a model takes, made up: what a task can draw of its own kind."""

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` random inputs."""


def made_up(examples: Examples, seed: int) -> Tensor:
    """Inputs (9, ...) of one trial, each of a kind of its own.

    Four of different sizes, the first of them again, one of zeros alone, one that ends in zeros,
    one with zeros here and there, and a very large one.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = examples.random(_ROWS, generator).clone()
    if inputs.is_floating_point():
        scales = torch.tensor([*SCALES, *[1.0] * (_ROWS - len(SCALES) - 1), WILD])
        inputs = inputs * scales.reshape(-1, *[1] * (inputs.ndim - 1))
    inputs[4] = inputs[0]
    inputs[5] = 0
    inputs[6, ..., inputs.shape[-1] // 2 :] = 0
    inputs[7][torch.rand(inputs[7].shape, generator=generator) < 0.5] = 0
    return inputs


def parts_of_made_up(seed: int) -> tuple[Tensor, ...]:
    """The rows (9,) of :func:`made_up` in parts: one alone, three, and five; others by turns of the
    seed."""
    return torch.split(torch.arange(_ROWS).roll(seed), _PARTS)


def made_up_few(examples: Examples, seed: int) -> Tensor:
    """Four of the inputs of :func:`made_up`, others by turns of the seed."""
    return made_up(examples, seed)[list(_CHOSEN[seed % len(_CHOSEN)])]


def made_up_many(examples: Examples, count: int) -> Tensor:
    """``count`` random inputs, of the usual size."""
    return examples.random(count, torch.Generator().manual_seed(count))


def spread() -> Tensor:
    """Rows (33,) of 257, from the first to the last at equal distances.

    Where a large batch is cut into chunks of eight or more, each chunk has one of them.
    """
    return torch.arange(0, MANY, MANY // (FEW - 1))


def parts_of_many() -> tuple[Tensor, ...]:
    """The rows of :func:`spread` all at once, and four at a time."""
    return (spread(), *torch.split(spread(), len(SCALES)))


def made_up_labels(count: int, classes: int, seed: int) -> Tensor:
    """Labels (count,): all different as far as there are classes, in equal pairs, or all equal; by
    turns of the seed."""
    rows = torch.arange(count)
    return (rows, rows // 2, torch.zeros_like(rows) + 1)[seed % 3] % classes


def made_up_many_labels(count: int, classes: int) -> Tensor:
    """Random labels (count,) of :func:`made_up_many`."""
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(count))


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
            size = float(parameter.square().mean().sqrt()) if parameter.numel() else 0.0
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((size or _usual_size(parameter)) * noise.to(parameter.dtype) / 2)
        for buffer in _travelling_buffers(moved):
            grown = torch.rand(buffer.shape, generator=generator).to(buffer.dtype)
            buffer.mul_(1 + grown / 2).add_(grown / 10)
    return moved


def redrawn(model: nn.Module, seed: int) -> nn.Module:
    """A copy of ``model`` with weights that owe nothing to its own, so that no gate stays shut.

    Float buffers and parameters of one dimension take the values of :data:`SIZES`: a whole tensor
    one of them, every one by turns of the seed, or each number its own. Other parameters are drawn
    at the usual size of initial weights.
    """
    generator, offsets = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(0)
    sizes, drawn = torch.tensor(SIZES), copy.deepcopy(model)
    vectors = [one for one in drawn.parameters() if one.ndim == 1]
    with torch.no_grad():
        for parameter in drawn.parameters():
            if parameter.ndim > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(_usual_size(parameter) * noise)
        for tensor in (*vectors, *_travelling_buffers(drawn)):
            offset = int(torch.randint(len(SIZES), (1,), generator=offsets))
            whole = tensor.numel() == 1 or offset % 2 == seed % 2
            turns = torch.randint(len(SIZES), tensor.shape, generator=generator)
            tensor.copy_(sizes[(seed + offset) % len(SIZES)] if whole else sizes[turns])
    return drawn


def _usual_size(parameter: Tensor) -> float:
    """Of initial weights."""
    return float(max(1, parameter[:1].numel()) ** -0.5) if parameter.ndim > 1 else 0.2


def _travelling_buffers(model: nn.Module) -> list[Tensor]:
    travels = model.state_dict()
    named = model.named_buffers()
    return [one for name, one in named if name in travels and one.is_floating_point()]
