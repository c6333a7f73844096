"""The pruning schedule: cut, mask and recover a student, in one go or in several rounds."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from fedlite.base.compute import CPU
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.prune import Criterion, cut_channels, plan_widths
from fedlite.compress.shrink.recover import recover
from fedlite.compress.shrink.sensitivity import gradient_sizes, public_gradients
from fedlite.compress.shrink.sparsify import Masks, weight_masks
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, Task
from fedlite.distill.public import require_public


def prune_and_recover(
    student: nn.Module,
    reference: nn.Module,
    task: Task,
    public: PublicData,
    config: CompressOptions,
    augment: AugmentOptions,
    seed: int,
    on_step: Callable[[int], None] | None = None,
    device: torch.device = CPU,
) -> nn.Module:
    """A pruned copy of ``student``, taught by ``reference`` on public data; in eval mode.

    ``one_shot`` cuts channels to their final widths, masks weights, and recovers once.
    ``iterative`` does that ``iterations`` times, each time by an equal share of the whole cut and
    of the sparsity, judging channels and weights anew; it ends at the same widths. The rounds share
    ``recovery_steps`` evenly, and every round's learning rate starts at the top. With no ratio
    and no sparsity there is nothing to recover: an equal copy, and no step is taken.

    Args:
        student: stays as it is.
        reference: the unpruned student or the teacher.
        task: what the student sees.
        public: for gradients and recovery.
        config: what to prune, by which criteria, and how to recover.
        augment: of the inputs during recovery.
        seed: of recovery, gradients and the random control.
        on_step: called with the number of finished recovery steps, over all rounds.
        device: where recovery computes.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
        UsageError: ``layer_ratios`` names a layer that cannot be pruned under this name.
        FedliteError: the layers cannot be cut, or rounding leaves every channel in place.
    """
    require_public(public)
    plan = plan_widths(student, task, config.ratio, config.round_to, config.layer_ratios)
    pruned = copy.deepcopy(student).eval()
    if not plan and config.sparsity == 0:
        return pruned
    rounds = config.iterations if config.schedule == "iterative" else 1
    finished = 0
    for index in range(rounds):
        share = (index + 1) / rounds
        if plan:
            by_gradient = config.criterion == "taylor"
            criterion = Criterion(
                config.criterion,
                public_gradients(pruned, reference, public, seed + index) if by_gradient else (),
                seed + index,
            )
            widths = {name: width.after(share) for name, width in plan.items()}
            pruned = cut_channels(pruned, task, widths, criterion)
        masks: Masks = {}
        if config.sparsity > 0:
            by_gradient = config.sparsity_criterion == "gradient"
            masks = weight_masks(
                pruned,
                config.sparsity * share,
                config.sparsity_criterion,
                gradient_sizes(pruned, reference, public, seed + index) if by_gradient else None,
            )
        steps = config.recovery_steps * (index + 1) // rounds - finished
        recover(
            pruned,
            reference,
            public,
            config,
            augment,
            masks,
            seed + index,
            _counting_from(finished, on_step),
            steps,
            device=device,
        )
        finished += steps
    return pruned.eval()


def _counting_from(
    finished: int, on_step: Callable[[int], None] | None
) -> Callable[[int], None] | None:
    return None if on_step is None else lambda step: on_step(finished + step)
