"""What canaries attack: networks, and invented examples whose gradients the auditor knows."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedlite.audit.audited import AuditedRun
from fedlite.audit.scratch import Networks
from fedlite.base.seeded import seeded
from fedlite.distill.answers import taught_answers
from fedlite.distill.loss import TaughtExamples, build_loss
from fedlite.distill.taps import Between
from fedlite.models.build import build_model, load_state
from fedlite.report.audit_sections import AttackedBy

STUDENT_CANARIES = 200
FEW_CANARIES = 40  # however small the student is
LARGEST_DIRECTIONS = 20_000_000  # numbers
OVERSHOOT = 10.0  # a canary's push before clipping, in clip norms


@dataclass(frozen=True)
class Target:
    """What canaries attack: networks, and candidates with the gradient of each.

    ``gradients`` (m, d) are those of the round's weights before clipping; ``names`` the arrays that
    they are of. ``steady`` is False where the student itself draws (dropout), so that nobody knows
    the gradient of a step. ``still`` says that the weights may move: gradients do not depend on
    them.
    """

    kind: AttackedBy
    words: str
    networks: Networks
    inputs: Tensor
    labels: Tensor
    gradients: Tensor
    names: tuple[str, ...]
    steady: bool
    still: bool

    def first(self, count: int) -> "Target":
        """The target with so many canaries at most."""
        return replace(
            self,
            inputs=self.inputs[:count],
            labels=self.labels[:count],
            gradients=self.gradients[:count],
        )

    def scaled(self, factor: float) -> "Target":
        """Where gradients grow with the inputs: both ``factor`` times as large."""
        return replace(self, inputs=factor * self.inputs, gradients=factor * self.gradients)


def student_target(audited: AuditedRun) -> Target:
    """The run's own student under its own loss, taught by its own teacher."""
    config, task = audited.config, audited.splits.task
    trained = [value.numel() for value in audited.student.parameters() if value.requires_grad]
    weights = sum(trained)  # most of which no canary should push, so that noise is seen there
    few = max(FEW_CANARIES, weights // 4)
    count = max(20, min(STUDENT_CANARIES, few, LARGEST_DIRECTIONS // weights))
    generator = torch.Generator().manual_seed(audited.seed("canaries"))
    inputs = task.random(count, generator)
    labels = torch.randint(task.num_classes, (count,), generator=generator)
    networks = Networks.of(audited)
    words = f"{networks.student.name}, the run's own student with its loss {config.distill.loss}"
    return make_target("student", words, networks, inputs, labels, still=False)


def make_target(
    kind: AttackedBy,
    words: str,
    networks: Networks,
    inputs: Tensor,
    labels: Tensor,
    *,
    still: bool,
) -> Target:
    """Work out the gradients of candidates one by one, by plain autograd."""
    student = build_model(networks.student, networks.task, seed=0)
    load_state(student, networks.student_state, where="audited student")
    teacher = build_model(networks.teacher, networks.task, seed=0)
    load_state(teacher, networks.teacher_state, where="teacher")
    between = Between(student, teacher, networks.task.blank(2))
    loss = build_loss(networks.loss, networks.class_weights, between)
    taught = taught_answers(teacher, inputs, loss.teacher_taps)
    losses = TaughtExamples(loss, inputs, labels, taught)
    trained = {name: one for name, one in student.named_parameters() if one.requires_grad}

    def gradient(row: int) -> Tensor:
        value = losses(student, torch.tensor([row])).sum()
        parts = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
        pairs = zip(parts, trained.values(), strict=True)
        filled = [torch.zeros_like(one) if part is None else part for part, one in pairs]
        return torch.cat([part.flatten() for part in filled]).double()

    with seeded(0):
        gradients = torch.stack([gradient(row) for row in range(len(inputs))])
        steady = torch.equal(gradient(0), gradients[0])
    return Target(kind, words, networks, inputs, labels, gradients, tuple(trained), steady, still)
