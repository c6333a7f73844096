"""Networks and losses of a person's own, good and bad: ``student=custom``, ``distill.loss``."""

import torch
from torch import Tensor, nn

from fedlite.distill.answers import Answers
from fedlite.distill.loss import Loss
from fedlite.distill.options import LossOptions


class Linear(nn.Module):
    """The smallest student."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(int(torch.tensor(input_shape).prod()), num_classes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs)
        return logits


class WithBatchNorm(Linear):
    """A student whose layers mix the examples of a batch."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(input_shape, num_classes)
        self.layers.append(nn.BatchNorm1d(num_classes))


class WrongAnswer(Linear):
    """A student that answers one class too few."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(input_shape, num_classes - 1)


class TwoHeads(Linear):
    """Answers two tensors while it is trained, and the logits alone otherwise."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, **of_others: object) -> None:
        super().__init__(input_shape, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        logits = super().forward(inputs)
        return (logits, logits) if self.training else logits  # type: ignore[return-value]


class Quits(Linear):
    """Leaves the process, as a script of its own would."""

    def forward(self, inputs: Tensor) -> Tensor:
        raise SystemExit("no settings found")


class _UnknownTap:
    """A loss of one's own that taps a layer which no teacher has."""

    student_taps: tuple[str, ...] = ()
    teacher_taps = ("no.such.layer",)

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        return (student.logits - teacher.features["no.such.layer"]).sum(dim=1)


def unknown_tap(options: LossOptions) -> Loss:
    """What ``distill.loss`` may name."""
    return _UnknownTap()
