"""Training on public data: batches, the type guard, and distillation from a frozen reference."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from fedlite.base.compute import device_of
from fedlite.base.seeded import seeded
from fedlite.data.augment import augment as augment_inputs
from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData
from fedlite.distill.answers import Answers, answers_of, taught_answers
from fedlite.distill.loss import Loss

Teach = Callable[[Tensor], Answers]
"""Inputs (n, ...) -> the teacher's answers on them."""


def require_public(data: object) -> None:
    """Let only :class:`PublicData` pass; what trains here is called post-processing elsewhere.

    Raises:
        TypeError: any other type.
    """
    if not isinstance(data, PublicData):
        raise TypeError(
            f"only PublicData may be used here, not {type(data).__name__}: training outside"
            " DP-SGD would spend privacy that no ledger records"
        )


def shuffled_batches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of exactly ``min(batch_size, n)`` indices, one permutation after another."""
    size = min(batch_size, n)
    queue = torch.empty(0, dtype=torch.int64)
    while True:
        while len(queue) < size:
            queue = torch.cat([queue, torch.randperm(n, generator=generator)])
        yield queue[:size]
        queue = queue[size:]


def teacher_answers(reference: nn.Module, loss: Loss) -> Teach:
    """What ``reference`` answers, in eval mode (in which it is left) and without gradients."""
    reference.eval()

    def teach(inputs: Tensor) -> Answers:
        with torch.no_grad():
            return answers_of(reference, inputs, loss.teacher_taps)

    return teach


def answers_once(reference: nn.Module, public: PublicData, loss: Loss) -> Teach:
    """What ``reference`` answers to examples of ``public`` as they are, each asked about once: for
    one that takes long, and inputs that nothing augments."""
    taught = taught_answers(reference, public.inputs, loss.teacher_taps)
    places = {row.numpy().tobytes(): place for place, row in enumerate(public.inputs)}

    def teach(inputs: Tensor) -> Answers:
        return taught[torch.tensor([places[row.numpy().tobytes()] for row in inputs.cpu()])]

    return teach


def distil_on_public(
    student: nn.Module,
    teach: Teach,
    public: PublicData,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    loss: Loss,
    augment: AugmentOptions,
    seed: int,
    after_step: Callable[[nn.Module], None] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Train ``student`` in place to answer like its teacher on ``public``; AdamW, cosine decay.

    Student and teacher see the same augmented batch, where the student is. The result depends on
    the arguments and ``seed`` alone; the global generator is left as it was. The student is left in
    train mode.

    Args:
        student: trained in place.
        teach: gives the teacher's answers; see :func:`teacher_answers`.
        public: anything else than public data is refused.
        steps: number of batches.
        batch_size: examples per batch, at most all of them.
        learning_rate: at the first step; it falls to 0 along a half cosine.
        weight_decay: of AdamW.
        loss: its mean over the batch is minimised.
        augment: of the public inputs.
        seed: of batches, augmentation and dropout.
        after_step: called with the student after each step (to put pruning masks back).
        on_step: called with the number of finished steps.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
    """
    require_public(public)
    generator, device = torch.Generator().manual_seed(seed), device_of(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps, 1))
    batches = shuffled_batches(len(public), batch_size, generator)
    student.train()
    with seeded(seed, device):
        for step in range(1, steps + 1):
            index = next(batches)
            inputs = augment_inputs(public.inputs[index], augment, generator).to(device)
            taught = teach(inputs)
            optimizer.zero_grad()
            answers = answers_of(student, inputs, loss.student_taps)
            losses = loss(answers, public.labels[index].to(device), taught)
            torch.autograd.backward(losses.mean())
            optimizer.step()
            schedule.step()
            if after_step is not None:
                after_step(student)
            if on_step is not None:
                on_step(step)
