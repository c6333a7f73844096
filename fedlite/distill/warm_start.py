"""The warm start: distilling the student on public data before round 1."""

import math
from collections.abc import Callable
from contextlib import nullcontext

from torch import nn

from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData
from fedlite.distill.answers import in_channels_last, training_in_channels_last
from fedlite.distill.class_weights import class_weights
from fedlite.distill.loss import build_loss
from fedlite.distill.options import DistillOptions, WarmStartOptions
from fedlite.distill.public import (
    answers_once,
    distil_on_public,
    require_public,
    teacher_answers,
)
from fedlite.distill.taps import Between
from fedlite.models.build import FixedFrontEnd
from fedlite.models.pretrained import PretrainedText


def warm_start_steps(config: WarmStartOptions, examples: int) -> int:
    """Number of steps that ``config.epochs`` passes over ``examples`` take."""
    return config.epochs * math.ceil(examples / config.batch_size)


def warm_start(
    student: nn.Module,
    teacher: nn.Module,
    public: PublicData,
    config: DistillOptions,
    augment: AugmentOptions,
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Distil ``teacher`` into ``student`` in place with the run's own loss; costs no privacy.

    Both work with channels last, in which the teacher is left; not a student whose first part is
    fixed, for whose few channels that is slower.

    ``on_step`` gets the number of finished steps, of :func:`warm_start_steps` in all.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
    """
    require_public(public)
    weights = class_weights(public.labels, int(public.labels.max()) + 1, config.class_weights)
    settings, shown = config.warm_start, public.inputs[:2]
    loss = build_loss(config, weights, Between(student, teacher, shown))
    fixed = isinstance(student, FixedFrontEnd)
    if isinstance(teacher, PretrainedText) and augment == AugmentOptions():
        teach = answers_once(teacher, public, loss)
    else:
        teach = teacher_answers(in_channels_last(teacher, shown), loss)
    with nullcontext() if fixed else training_in_channels_last(student, shown):
        distil_on_public(
            student,
            teach,
            public,
            steps=warm_start_steps(settings, len(public)),
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            loss=loss,
            augment=augment,
            seed=seed,
            on_step=on_step,
        )
