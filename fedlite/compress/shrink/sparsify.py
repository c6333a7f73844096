"""Unstructured pruning: masks that set single weights of a student to zero."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

Masks = dict[str, Tensor]


def prunable_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of all convolutions and linear layers, by their name in the state dict."""
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, (*CONVOLUTIONS, nn.Linear))
    }


def count_nonzero(model: nn.Module) -> int:
    """Number of non-zero scalars in the weights of convolutions and linear layers."""
    return sum(int(torch.count_nonzero(weight)) for weight in prunable_weights(model).values())


def weight_masks(
    model: nn.Module,
    sparsity: float,
    criterion: str = "global",
    gradients: Mapping[str, Tensor] | None = None,
) -> Masks:
    """Masks that leave out the weakest weights of convolutions and linear layers.

    Sparsity like this brings no speed and no smaller file: dense kernels multiply the zeros too.
    Only the compressed transfer of the file shrinks.

    Args:
        model: its weights are read, not changed.
        sparsity: share of weights masked out, in [0, 1).
        criterion: ``global``: the smallest magnitudes of the whole model (Han et al. 2015,
            *Learning both weights and connections for efficient neural networks*); ``local``: the
            smallest of each weight tensor; ``gradient``: the smallest products of magnitude and
            gradient, over the whole model (Lee et al. 2019, *SNIP: single-shot network pruning*,
            with the gradients of :func:`fedlite.compress.shrink.sensitivity.gradient_sizes`).
        gradients: sizes of the gradients by state dict name; for ``gradient`` alone.

    Returns:
        A boolean tensor (True: kept) in the shape of each weight, by state dict name. Of the n
        weights (``local``: of each tensor) exactly ``int(sparsity * n)`` are False.
    """
    weights = {name: weight.detach() for name, weight in prunable_weights(model).items()}
    scores = {name: weight.abs() for name, weight in weights.items()}
    if criterion == "gradient":
        assert gradients is not None, "compress.sparsity_criterion=gradient needs gradients"
        scores = {name: score * gradients[name].abs() for name, score in scores.items()}
    if criterion == "local":
        return {name: _strongest(score, sparsity) for name, score in scores.items()}
    flat = _strongest(torch.cat([score.flatten() for score in scores.values()]), sparsity)
    parts = torch.split(flat, [score.numel() for score in scores.values()])
    return {
        name: part.reshape(score.shape)
        for (name, score), part in zip(scores.items(), parts, strict=True)
    }


def _strongest(scores: Tensor, sparsity: float) -> Tensor:
    """False at the ``int(sparsity * n)`` lowest of the n scores, True elsewhere; same shape."""
    kept = torch.ones(scores.numel(), dtype=torch.bool)
    kept[scores.flatten().argsort(stable=True)[: int(sparsity * scores.numel())]] = False
    return kept.reshape(scores.shape)


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Set the weights that ``masks`` leaves out to zero, in place."""
    for name, mask in masks.items():
        model.get_parameter(name).mul_(mask)
