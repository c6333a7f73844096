"""Recovery: what was cut, folded or rounded is distilled back, on public data."""

from collections.abc import Callable

import torch
from torch import nn

from fedlite.base.compute import CPU, moved
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.sparsify import Masks, apply_masks
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData
from fedlite.distill.loss import build_loss
from fedlite.distill.options import DistillOptions
from fedlite.distill.public import distil_on_public, require_public, teacher_answers


def recover(
    student: nn.Module,
    reference: nn.Module,
    public: PublicData,
    config: CompressOptions,
    augment: AugmentOptions,
    masks: Masks,
    seed: int,
    on_step: Callable[[int], None] | None = None,
    steps: int | None = None,
    learning_rate: float | None = None,
    device: torch.device = CPU,
) -> None:
    """Distil ``reference`` into the smaller ``student`` on public data, in place.

    Only the reference's logits teach (alpha 0): public labels would pull the student back to what
    public data knows, away from what private data taught. The student is left in train mode.

    Args:
        student: learns; of any widths.
        reference: the student before it was made smaller, or the teacher; it stays as it is.
        public: anything else is refused.
        config: learning rate, batch size and ``recovery_steps``.
        augment: of the public inputs.
        masks: applied before the first and after every step.
        seed: of batches and augmentation.
        on_step: called with the number of finished steps.
        steps: in place of ``config.recovery_steps``.
        learning_rate: in place of ``config.recovery_learning_rate``.
        device: where both are meanwhile.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`; compression sees no private data.
    """
    require_public(public)
    masks = {name: mask.to(device) for name, mask in masks.items()}
    loss = build_loss(DistillOptions(loss="soft", alpha=0.0, temperature=2.0))
    with moved(device, student, reference):
        apply_masks(student, masks)
        distil_on_public(
            student,
            teacher_answers(reference, loss),
            public,
            steps=config.recovery_steps if steps is None else steps,
            batch_size=config.recovery_batch_size,
            learning_rate=config.recovery_learning_rate if learning_rate is None else learning_rate,
            weight_decay=0.0,
            loss=loss,
            augment=augment,
            seed=seed,
            after_step=lambda model: apply_masks(model, masks),
            on_step=on_step,
        )
