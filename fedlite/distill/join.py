"""Joining classes of students: each learns from the ensemble of all, on public data alone.

Ensemble distillation (Lin, Kong, Stich and Jaggi 2020, arXiv 2006.07242, FedDF). The students are
released already, and the examples public: post-processing, free of epsilon.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlite.base.intervals import PairedComparison
from fedlite.base.records import Metric
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData
from fedlite.distill.keep import keep_student
from fedlite.distill.loss import build_loss
from fedlite.distill.options import JoinOptions, LossOptions
from fedlite.distill.public import distil_on_public, require_public, teacher_answers
from fedlite.privacy.randomness import derive_seed

ENSEMBLE_ALONE = LossOptions("soft", alpha=0.0, temperature=1.0)  # as in the paper


class Ensemble(nn.Module):
    """Several networks of one task; its logits are the mean of theirs."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (n, ...) -> logits (n, C)."""
        return torch.stack([member(inputs) for member in self.members]).mean(dim=0)


@dataclass(frozen=True)
class JoinedClass:
    """What a join made of one class.

    ``student`` is the joined one, in eval mode, or None where it was not ``taken``: it is worse
    than before on public validation examples. ``validation`` compares the student before (first)
    with the joined one (second) there; None where there are none, and then it is taken.
    """

    student: nn.Module | None
    validation: PairedComparison | None

    @property
    def taken(self) -> bool:
        """Whether the class goes on with the joined student."""
        return self.student is not None


def join_students(
    students: Mapping[str, nn.Module],
    public: PublicData,
    validation: PublicData,
    config: JoinOptions,
    augment: AugmentOptions,
    metric: Metric,
    seed: int,
) -> dict[str, JoinedClass]:
    """Teach every class's student the mean logits of all, as they were before the join.

    Args:
        students: released ones, by class; they stay as they are.
        public: teaches.
        validation: public examples that no student was taught on; chooses whether a class goes on
            with what it learnt. May be empty.
        config: of the join.
        augment: of the public inputs.
        metric: ``dataset.metric``, by which is chosen.
        seed: of batches and augmentation; those of every class are its own.

    Raises:
        TypeError: ``public`` or ``validation`` is not :class:`PublicData`.
    """
    require_public(public)
    require_public(validation)
    loss = build_loss(ENSEMBLE_ALONE)
    teach = teacher_answers(Ensemble([deepcopy(one) for one in students.values()]), loss)
    found = {}
    for name, before in students.items():
        joined = deepcopy(before)
        distil_on_public(
            joined,
            teach,
            public,
            steps=config.steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            weight_decay=0.0,
            loss=loss,
            augment=augment,
            seed=derive_seed(seed, name),
        )
        kept = keep_student(before.eval(), joined.eval(), validation, "best", metric)
        taken = kept.student == "federated_student"  # the second of the two
        found[name] = JoinedClass(joined if taken else None, kept.validation)
    return found
