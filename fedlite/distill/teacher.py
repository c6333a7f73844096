"""The teacher: trained on public data with early stopping, loaded from a checkpoint, or both."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fedlite.base.compute import device_of
from fedlite.base.errors import UsageError
from fedlite.base.records import Evaluation
from fedlite.base.seeded import seeded
from fedlite.data.augment import augment as augment_inputs
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData, Task
from fedlite.distill.answers import front_end_features, training_in_channels_last
from fedlite.distill.checkpoint import load_checkpoint
from fedlite.distill.class_weights import class_weights
from fedlite.distill.evaluate import evaluate_logits, predict_logits
from fedlite.distill.options import TeacherOptions
from fedlite.distill.pretrained import load_pretrained
from fedlite.distill.public import require_public, shuffled_batches
from fedlite.models.build import FixedFrontEnd
from fedlite.models.pretrained import PretrainedText

SLOWER = 100  # times: what a checkpoint has brought learns as much slower than a new head


def freeze(model: nn.Module) -> None:
    """Put ``model`` in eval mode and take its parameters out of training."""
    model.eval().requires_grad_(False)


def train_teacher(
    model: nn.Module,
    public: PublicData,
    validation: PublicData,
    config: TeacherOptions,
    augment: AugmentOptions,
    seed: int,
    on_epoch: Callable[[int, Evaluation], None] | None = None,
) -> None:
    """Train ``model`` in place on ``public`` and leave it frozen with its best weights.

    AdamW with cosine decay and label smoothing (Szegedy et al. 2016), classes weighed by
    ``config.class_weights``. The best weights are those of the lowest cross-entropy on
    ``validation``, weighed alike; ``config.patience`` epochs without a better one
    end the training. ``on_epoch`` gets the number of finished epochs and what the model came to on
    ``validation``. The model is trained where it is; the result depends on the arguments and
    ``seed`` alone.

    What a checkpoint has brought is fine-tuned (``config.fine_tune``): its head alone, on features
    that are worked out once and not augmented; or all of it, the head at ``config.learning_rate``
    and what was learnt before at a hundredth of it.

    Raises:
        UsageError: ``fine_tune=head`` of a network that is not divided so.
        TypeError: ``public`` or ``validation`` is not :class:`PublicData`.
    """
    require_public(public)
    require_public(validation)
    if config.checkpoint is None or config.fine_tune != "head":
        _train(model, public, validation, config, augment, seed, on_epoch)
    elif isinstance(model, FixedFrontEnd):
        of_public, of_validation = (
            PublicData(front_end_features(model, data.inputs), data.labels)
            for data in (public, validation)
        )
        _train(model.head, of_public, of_validation, config, AugmentOptions(), seed, on_epoch)
    else:
        raise UsageError(
            f"teacher.fine_tune=head: {type(model).__name__} does not say what its head is; use"
            " teacher.fine_tune=all"
        )
    freeze(model)


def _train(
    model: nn.Module,
    public: PublicData,
    validation: PublicData,
    config: TeacherOptions,
    augment: AugmentOptions,
    seed: int,
    on_epoch: Callable[[int, Evaluation], None] | None,
) -> None:
    generator, device = torch.Generator().manual_seed(seed), device_of(model)
    classes = predict_logits(model, public.inputs[:1]).shape[1]
    weights = class_weights(public.labels, classes, config.class_weights)
    optimizer = torch.optim.AdamW(
        _by_rate(model, config), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = math.ceil(len(public) / config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs * steps)
    batches = shuffled_batches(len(public), config.batch_size, generator)
    best_loss, best_epoch, best_state = math.inf, 0, copy.deepcopy(model.state_dict())
    with seeded(seed, device), training_in_channels_last(model, public.inputs[:2]):
        for epoch in range(1, config.epochs + 1):
            model.train()
            for _ in range(steps):
                index = next(batches)
                inputs = augment_inputs(public.inputs[index], augment, generator)
                logits, labels = model(inputs.to(device)), public.labels[index].to(device)
                optimizer.zero_grad()
                weight = logits.new_tensor(weights) if weights else None
                torch.autograd.backward(
                    F.cross_entropy(logits, labels, weight, label_smoothing=config.label_smoothing)
                )
                optimizer.step()
                schedule.step()
            logits = predict_logits(model, validation.inputs)
            found = evaluate_logits(logits, validation.labels, logits.shape[1])
            loss = found.loss
            if weights:
                weight = logits.new_tensor(weights)
                loss = float(F.cross_entropy(logits, validation.labels, weight))
            if loss < best_loss:
                best_loss, best_epoch = loss, epoch
                best_state = copy.deepcopy(model.state_dict())
            if on_epoch is not None:
                on_epoch(epoch, found)
            if epoch - best_epoch >= config.patience:
                break
    model.load_state_dict(best_state)


def _by_rate(model: nn.Module, config: TeacherOptions) -> list[dict[str, Any]]:
    """The parameters for the optimizer; apart, and slower, those that a checkpoint has brought."""
    own = list(model.parameters())
    if config.checkpoint is None or not isinstance(head := getattr(model, "head", None), nn.Module):
        return [{"params": own}]
    new = {id(one) for one in head.parameters()}
    return [
        {"params": [one for one in own if id(one) in new]},
        {"params": [one for one in own if id(one) not in new], "lr": config.learning_rate / SLOWER},
    ]


def load_teacher(model: nn.Module, config: TeacherOptions, task: Task) -> None:
    """Load what ``config.checkpoint`` names into ``model``, a file or a pretrained folder, and
    freeze it.

    Raises:
        UsageError: as :func:`load_teacher_checkpoint` and
            :func:`fedlite.distill.pretrained.load_pretrained`.
    """
    assert config.checkpoint is not None
    if isinstance(model, PretrainedText):
        load_pretrained(model, config.checkpoint, task, new_head=config.fine_tune != "none")
        freeze(model)
    else:
        load_teacher_checkpoint(model, config.checkpoint)


def load_teacher_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Load the file at ``path`` into ``model`` and freeze it.

    Raises:
        UsageError: as :func:`fedlite.distill.checkpoint.load_checkpoint`.
    """
    load_checkpoint(model, Path(path).expanduser())
    freeze(model)
