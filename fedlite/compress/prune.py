"""Pruning channels and weights of a student, and recovering it on public data."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from fedlite.config import AugmentConfig, CompressConfig, DistillConfig
from fedlite.data.types import PublicData
from fedlite.distill.losses import build_loss
from fedlite.distill.public import distil_on_public, require_public
from fedlite.errors import FedliteError

Masks = dict[str, Tensor]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prune_channels(
    model: nn.Module, input_shape: tuple[int, ...], ratio: float, round_to: int
) -> nn.Module:
    """A copy of ``model`` without the weakest ``ratio`` of the channels of every layer.

    Channels that depend on each other (through residual sums, depthwise convolutions and norms)
    are removed together, by the L2 magnitude of their whole group (Fang et al. 2023, *DepGraph*;
    the torch-pruning library). Each width becomes the multiple of ``round_to`` nearest to
    ``(1 - ratio) * width``, at least one; groups of a norm stay equal in size. The outputs stay.
    ``ratio`` 0 gives an equal copy.

    Args:
        model: answers logits (n, classes) for inputs (n, *input_shape).
        input_shape: of one example.
        ratio: in [0, 1).
        round_to: 1 or more.

    Raises:
        FedliteError: no channel could be removed, or the layers cannot be cut.
    """
    pruned = copy.deepcopy(model).eval()
    if ratio == 0:
        return pruned.train(model.training)
    name, example = type(model).__name__, torch.zeros(2, *input_shape)
    trainable = {key: parameter.requires_grad for key, parameter in pruned.named_parameters()}
    pruned.requires_grad_(True)  # the dependency graph is read off autograd's
    try:
        classes = pruned(example).shape[1]
        cut = _cut_channels(pruned, example, ratio, round_to)
        with torch.no_grad():
            answered = pruned(example).shape[1]
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise FedliteError(
            f"pruning {name}: its layers cannot be cut ({reason}); use compress.ratio=0"
        ) from error
    if cut == 0:
        raise FedliteError(
            f"pruning {name}: compress.ratio={ratio:g} with compress.round_to={round_to} removes"
            " no channel; use a larger ratio, a smaller round_to, or compress.ratio=0"
        )
    if answered != classes:
        raise FedliteError(f"pruning {name}: it would lose classes; use compress.ratio=0")
    for key, parameter in pruned.named_parameters():
        parameter.requires_grad_(trainable[key])
    return pruned.train(model.training)


def _cut_channels(model: nn.Module, example: Tensor, ratio: float, round_to: int) -> int:
    """Cut ``model`` in place; the number of channels removed, counted once per group of layers.

    The groups are cut one by one here because torch-pruning's own ``round_to`` rounds grouped
    channels down far below the ratio asked for.
    """
    graph = torch_pruning.DependencyGraph().build_dependency(model, example)
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    plans = []
    for group in graph.get_all_groups(head, (*CONVOLUTIONS, nn.Linear)):
        scores, parts = importance(group), _equal_parts(graph, group)
        width, step = len(scores), math.lcm(parts, round_to)
        kept = min(width, max(step, round(width * (1 - ratio) / step) * step))
        part_scores = scores.reshape(parts, -1).mean(dim=0)
        weakest = part_scores.argsort(stable=True)[: (width - kept) // parts]
        offsets = torch.arange(parts)[:, None] * (width // parts)
        root = group[0].dep
        plans.append((root.target.module, root.handler, (weakest + offsets).flatten().tolist()))
    for module, cut, channels in plans:
        if channels:
            graph.get_pruning_group(module, cut, channels).prune()
    return sum(len(channels) for _, _, channels in plans)


def _equal_parts(graph: Any, group: Any) -> int:
    """Into how many parts of equal size norms and grouped convolutions split these channels."""
    found = [1]
    for dependency, _ in group:
        module = dependency.target.module
        depthwise = isinstance(module, CONVOLUTIONS) and module.groups == module.out_channels
        if isinstance(module, (*CONVOLUTIONS, nn.GroupNorm)) and not depthwise:
            pruner = graph.get_pruner_of_module(module)
            outward = graph.is_out_channel_pruning_fn(dependency.handler)
            count = pruner.get_out_channel_groups if outward else pruner.get_in_channel_groups
            found.append(count(module))
    return math.lcm(*found)


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


def weight_masks(model: nn.Module, sparsity: float) -> Masks:
    """Masks that keep the largest weights of the whole model (global magnitude; Han et al. 2015).

    Exactly ``floor(sparsity * n)`` of the n weights of convolutions and linear layers are masked
    out. Sparsity like this brings no speed and no smaller file: dense kernels multiply the zeros
    too. Only the compressed transfer of the file shrinks.

    Args:
        model: its weights are read, not changed.
        sparsity: share of weights masked out, in [0, 1).

    Returns:
        A boolean tensor (True: kept) in the shape of each weight, by state dict name.
    """
    weights = prunable_weights(model)
    magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    kept = torch.ones(len(magnitudes), dtype=torch.bool)
    kept[magnitudes.argsort(stable=True)[: int(sparsity * len(magnitudes))]] = False
    parts = torch.split(kept, [weight.numel() for weight in weights.values()])
    return {
        name: part.reshape(weight.shape)
        for (name, weight), part in zip(weights.items(), parts, strict=True)
    }


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Set the weights that ``masks`` leaves out to zero, in place."""
    for name, mask in masks.items():
        model.get_parameter(name).mul_(mask)


def recover(
    student: nn.Module,
    reference: nn.Module,
    public: PublicData,
    config: CompressConfig,
    augment: AugmentConfig,
    masks: Masks,
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Distil the unpruned ``reference`` into the pruned ``student`` on public data, in place.

    Only the reference's logits teach (alpha 0): public labels would pull the student back to what
    public data knows, away from what private data taught. ``masks`` are applied after every step.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`; compression sees no private data.
    """
    require_public(public)
    apply_masks(student, masks)
    distil_on_public(
        student,
        reference,
        public,
        steps=config.recovery_steps,
        batch_size=config.recovery_batch_size,
        learning_rate=config.recovery_learning_rate,
        weight_decay=0.0,
        loss=build_loss(DistillConfig(loss="soft", alpha=0.0, temperature=2.0)),
        augment=augment,
        seed=seed,
        after_step=lambda model: apply_masks(model, masks),
        on_step=on_step,
    )
