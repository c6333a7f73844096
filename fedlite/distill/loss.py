"""The seam of losses: answers of student and teacher, labels -> one loss per example."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from fedlite.data.augment import Copies
from fedlite.distill.answers import Answers, answers_of
from fedlite.distill.options import LOSSES, LossOptions
from fedlite.distill.taps import Between, check_there
from fedlite.privacy.probe import check_row_separable

PROBE_CLASSES, PROBE_FEATURES = 5, 6  # of the made-up answers that a loss is tried on


class Loss(Protocol):
    """(student's answers, labels (n,), teacher's answers) -> losses (n,).

    A loss names what it taps of the student and of the teacher (:mod:`fedlite.distill.taps`),
    nothing if it is one of logits alone. Under DP-SGD row i must depend on row i alone (rule 6).
    """

    @property
    def student_taps(self) -> Sequence[str]: ...

    @property
    def teacher_taps(self) -> Sequence[str]: ...

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor: ...


class LogitLoss:
    """A loss of logits alone, from a pure function of tensors."""

    student_taps: Sequence[str] = ()
    teacher_taps: Sequence[str] = ()

    def __init__(self, of_logits: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        self._of_logits = of_logits

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        """Losses (n,)."""
        return self._of_logits(student.logits, labels, teacher.logits)


@dataclass(frozen=True)
class LooksInside:
    """What a module of losses builds where a loss follows from the networks that it stands between:
    which layers it taps, how wide they are."""

    place: Callable[[Between], Loss]


@dataclass(frozen=True)
class WeightedLoss:
    """``loss`` times the weight of each example's class; row i still depends on row i alone.

    Under DP-SGD gradients are clipped afterwards, so that a weight moves no bound.
    """

    loss: Loss
    weights: tuple[float, ...]

    @property
    def student_taps(self) -> Sequence[str]:
        """Those of the loss."""
        return self.loss.student_taps

    @property
    def teacher_taps(self) -> Sequence[str]:
        """Those of the loss."""
        return self.loss.teacher_taps

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        """Losses (n,)."""
        losses = self.loss(student, labels, teacher)
        return losses * losses.new_tensor(self.weights)[labels]


def build_loss(
    options: LossOptions, weights: Sequence[float] = (), between: Between | None = None
) -> Loss:
    """The loss that ``distill.loss`` names.

    Args:
        options: ``distill``, or the part of it that a client is sent.
        weights: of each class (:func:`fedlite.distill.class_weights.class_weights`); empty: all 1.
        between: the networks, for losses that look inside; they are left as they are.

    Raises:
        UsageError: there is none of this name, it cannot be imported, or the networks have nothing
            that it could look at.
    """
    loss: Loss | LooksInside = LOSSES.find(options.loss)(options)
    if isinstance(loss, LooksInside):
        assert between is not None, f"{options.loss} looks inside the networks"
        loss = loss.place(between)
    return WeightedLoss(loss, tuple(weights)) if weights else loss


@dataclass(frozen=True)
class TaughtExamples:
    """``loss`` on fixed examples as training sees it: (model, rows) -> losses of those rows.

    ``inputs`` (n, ...), ``labels`` (n,), and ``taught``, the teacher's answers on the inputs, asked
    once. With ``copies`` the loss of an example is the mean over its copies, so that its gradient
    is their mean before it is clipped (De et al. 2022, *Unlocking high-accuracy differentially
    private image classification through scale*, section 3.3); the teacher's answer stays that to
    the example as it is.
    """

    loss: Loss
    inputs: Tensor
    labels: Tensor
    taught: Answers
    copies: Copies | None = None

    def __call__(self, model: nn.Module, rows: Tensor) -> Tensor:
        """Losses (n,) of ``rows`` (n,)."""
        return self[rows].losses(model, rows)

    def __getitem__(self, rows: Tensor) -> Self:
        """Some of the examples."""
        inputs = _rows_of([(self.inputs, rows)])
        return replace(self, inputs=inputs, labels=self.labels[rows], taught=self.taught[rows])

    def losses(self, model: nn.Module, numbers: Tensor) -> Tensor:
        """Of all examples (n,), for which copies are drawn by their ``numbers`` (n,)."""
        if self.copies is None:
            return self._of(model, self.inputs)
        seen = self.copies.of(self.inputs, numbers)
        return torch.stack([self._of(model, inputs) for inputs in seen]).mean(dim=0)

    def _of(self, model: nn.Module, inputs: Tensor) -> Tensor:
        answers = answers_of(model, inputs, self.loss.student_taps)
        return self.loss(answers, self.labels, self.taught)


@dataclass(frozen=True)
class JoinedExamples:
    """The examples of several clients under one loss, numbered one client after the other."""

    clients: Sequence[TaughtExamples]

    def __call__(self, model: nn.Module, rows: Tensor) -> Tensor:
        """Losses (n,) of ``rows`` (n,), in which the rows of each client lie together."""
        ends = list(accumulate(len(one.labels) for one in self.clients))
        owned = torch.bucketize(rows, torch.tensor(ends), right=True)
        owners, counts = torch.unique_consecutive(owned, return_counts=True)
        some: list[tuple[TaughtExamples, Tensor]] = [
            (self.clients[owner], own - (ends[owner] - len(self.clients[owner].labels)))
            for owner, own in zip(owners.tolist(), torch.split(rows, counts.tolist()), strict=True)
        ]
        joined = replace(
            some[0][0],
            inputs=_rows_of([(one.inputs, own) for one, own in some]),
            labels=torch.cat([one.labels[own] for one, own in some]),
            taught=Answers.joined([one.taught[own] for one, own in some]),
        )
        return joined.losses(model, rows)


def _rows_of(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Rows (n,) of each tensor (..., *shape), one tensor's after the other's: (n together, *shape).

    By ``index_select``, which copies a row as a whole, and copies it once.
    """
    shape = parts[0][0].shape[1:]
    assert all(values.shape[1:] == shape for values, _ in parts)
    counts = [len(rows) for _, rows in parts]
    found = parts[0][0].new_empty(sum(counts), *shape)
    for (values, rows), place in zip(parts, torch.split(found, counts), strict=True):
        torch.index_select(values, 0, rows.to(values.device), out=place)
    return found


def check_separable(
    loss: Loss, option: str = LOSSES.option, like: tuple[Answers, Answers] | None = None
) -> None:
    """Refuse a loss in which one row's gradient depends on another row (rule 6).

    Args:
        loss: tried on made-up answers.
        option: what names it in the error, with its value where that is known.
        like: what student and teacher answer, on any examples: the made-up answers have these
            numbers of classes and shapes of features. Without it logits of 5 classes, and features
            (n, 6).

    Raises:
        UsageError: the loss looks across rows, or fails.
    """
    student, teacher = like or tuple(map(_plain, (loss.student_taps, loss.teacher_taps)))

    def losses(one: Tensor, labels: Tensor, other: Tensor) -> Tensor:
        return loss(_unpacked(one, student), labels, _unpacked(other, teacher))

    widths = [
        sum(values[:1].numel() for values in (model.logits, *model.features.values()))
        for model in (student, teacher)
    ]
    classes = student.logits.shape[1]
    check_row_separable(losses, widths=(widths[0], widths[1]), classes=classes, option=option)


def _plain(taps: Sequence[str]) -> Answers:
    return Answers(
        torch.zeros((1, PROBE_CLASSES)), dict.fromkeys(taps, torch.zeros(1, PROBE_FEATURES))
    )


def _unpacked(rows: Tensor, like: Answers) -> Answers:
    """Answers in the shapes of ``like``, of rows (n, ...) that hold all of one example."""
    kinds = (like.logits, *like.features.values())
    parts = torch.split(rows, [one[:1].numel() for one in kinds], dim=1)
    logits, *rest = (
        part.reshape(len(rows), *one.shape[1:]) for part, one in zip(parts, kinds, strict=True)
    )
    features: Mapping[str, Tensor] = dict(zip(like.features, rest, strict=True))
    return Answers(logits, features)


def check_taps(loss: Loss, student: nn.Module, teacher: nn.Module) -> None:
    """Refuse a loss that taps a module which a network does not have.

    Raises:
        UsageError: names the network and the module.
    """
    check_there(student, "student", loss.student_taps)
    check_there(teacher, "teacher", loss.teacher_taps)
