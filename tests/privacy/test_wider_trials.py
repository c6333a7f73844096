"""Trials before a charge: label patterns, kinds of inputs, batch sizes, gates, front ends, taps."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlite.base.errors import UsageError
from fedlite.distill.answers import Answers
from fedlite.distill.loss import LogitLoss, Loss, build_loss, check_separable
from fedlite.distill.options import DistillOptions
from fedlite.federation.student_check import check_student
from fedlite.federation.workbench import trained_part
from fedlite.privacy.options import PrivacyOptions
from fedlite.runs.config import Config
from tests.privacy.world import ClientWorld
from tests.tasks import shaped

TASK = shaped((1, 8, 8))


class Plain(nn.Module):
    def __init__(self, input_shape: Sequence[int] = (1, 8, 8), num_classes: int = 10) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(64, 12), nn.Linear(12, num_classes)
        self.tap = nn.Identity()

    def middle(self, x: Tensor) -> Tensor:
        return self.first(x.flatten(1)).tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(x))


def centred(x: Tensor) -> Tensor:
    return (x - x.mean(dim=0)) / (x.std(dim=0, correction=0) + 1e-2)


class OpensAtOne(Plain):
    """Nothing is mixed until a server says so."""

    def __init__(self, input_shape: Sequence[int] = (1, 8, 8), num_classes: int = 10) -> None:
        super().__init__(input_shape, num_classes)
        self.register_buffer("flag", torch.zeros(1))

    def middle(self, x: Tensor) -> Tensor:
        return super().middle(centred(x) if self.flag > 0.5 else x)


class ClosedGate(OpensAtOne):
    def __init__(self, input_shape: Sequence[int] = (1, 8, 8), num_classes: int = 10) -> None:
        super().__init__(input_shape, num_classes)
        self.flag.fill_(-1)

    def middle(self, x: Tensor) -> Tensor:
        return Plain.middle(self, x - self.flag.clamp(0, 1) * x.mean(dim=0))


class OpensAtOneValue(OpensAtOne):
    """Open at a value that no trial draws."""

    def middle(self, x: Tensor) -> Tensor:
        return Plain.middle(self, centred(x) if 1.9 < self.flag < 2.1 else x)


class GhostNorm(Plain):
    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        if len(x) < 16 or not self.training:
            return hidden
        return torch.cat([centred(one) for one in hidden.chunk(len(x) // 8)])


class AtMost(Plain):
    def middle(self, x: Tensor) -> Tensor:
        ones = torch.ones(100, 12)
        return super().middle(x) * (ones[: len(x)] if self.training else 1)


class Trimmed(Plain):
    """Cut to the longest row of the batch, by the zeros at their ends."""

    def middle(self, x: Tensor) -> Tensor:
        longest = int((x != 0).any(1).any(1).sum(1).max())
        return super().middle(x) / max(1, longest)


class FillsBlanks(Plain):
    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x + (x == 0) * x.mean(dim=0))


class CountsEqualRows(Plain):
    def middle(self, x: Tensor) -> Tensor:
        same = (x.flatten(1)[:, None] == x.flatten(1)[None]).all(dim=2)
        return super().middle(x) * same.sum(dim=1, keepdim=True)


class CutByTheLargest(Plain):
    def middle(self, x: Tensor) -> Tensor:
        return super().middle(x * (100 / x.abs().max()).clamp(max=1))


class Front(nn.Module):
    fixed_front_end = True

    def __init__(self, input_shape: Sequence[int] = (1, 8, 8), num_classes: int = 10) -> None:
        super().__init__()
        self.head = nn.Linear(64, num_classes)

    def features(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


class FrontCentred(Front):
    def features(self, inputs: Tensor) -> Tensor:
        return centred(inputs.flatten(1))


class FrontOther(Front):
    def features(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1).cos()


class FrontTwice(Front):
    def features(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1).repeat(2, 1)


class TapsCentred(Plain):
    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        self.tap(centred(hidden))
        return hidden


class TapsFirst(Plain):
    """Of another dimension than the examples'."""

    def middle(self, x: Tensor) -> Tensor:
        hidden = super().middle(x)
        self.tap(hidden.T)
        return hidden


class Hint:
    student_taps: Sequence[str] = ("tap",)
    teacher_taps: Sequence[str] = ("tap",)

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        gap = student.features["tap"] - teacher.features["tap"]
        return gap.square().mean(dim=1) + F.cross_entropy(student.logits, labels, reduction="none")


def check(student: nn.Module, loss: Loss | None = None, teacher: nn.Module | None = None) -> None:
    made = loss or build_loss(DistillOptions())
    check_student(student, teacher or Plain(), made, TASK, PrivacyOptions(), trained_part)


@pytest.mark.parametrize(
    ("student", "words"),
    [
        (OpensAtOne, "of one example depends"),
        (ClosedGate, "of one example depends"),
        (GhostNorm, "of one example depends"),
        (AtMost, "fails in a trial"),
        (Trimmed, "of one example depends"),
        (FillsBlanks, "of one example depends"),
        (CountsEqualRows, "of one example depends"),
        (CutByTheLargest, "of one example depends"),
        (FrontCentred, r"forward be head\(features"),
        (FrontOther, r"forward be head\(features"),
        (FrontTwice, "one row of features for each example"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_students_are_refused(student: type[nn.Module], words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        check(student())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("student", [Plain, Front])
def test_students_of_single_rows_pass(student: type[nn.Module]) -> None:
    check(student())


class TapsItself(Plain):
    def middle(self, x: Tensor) -> Tensor:
        return self.tap(super().middle(x))


def test_tapped_features_of_the_teacher_are_tried() -> None:
    check(TapsItself(), Hint(), TapsItself())
    with pytest.raises(UsageError, match="teacher: the output of one example depends"):
        check(TapsItself(), Hint(), TapsCentred())
    with pytest.raises(UsageError, match="teacher: answers 12 rows for 9 examples"):
        check(TapsItself(), Hint(), TapsFirst())


class HintBeforeTanh(Hint):
    student_taps: Sequence[str] = ("first",)

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        taps = {"tap": student.features["first"]}
        return super().__call__(Answers(student.logits, taps), labels, teacher)


def test_a_tap_on_a_trained_layer_is_refused_and_named() -> None:
    """Opacus sees what the next layer asks of it, and not what the loss does."""
    with pytest.raises(UsageError, match=r"taps the student's layer 'first' \(Linear\).*after it"):
        check(TapsItself(), HintBeforeTanh(), TapsItself())
    frozen = TapsItself()
    frozen.first.requires_grad_(requires_grad=False)
    check(frozen, HintBeforeTanh(), TapsItself())


# --- losses -----------------------------------------------------------------------------------


def to_the_centroid(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    same = F.normalize((labels[:, None] == labels[None]).float(), p=1)
    return (student - same @ teacher).square().sum(dim=1)


def the_hardest_eight(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    losses = F.cross_entropy(student, labels, reduction="none")
    return losses * (losses >= losses.topk(min(8, len(losses))).values[-1])


@pytest.mark.parametrize("of_logits", [to_the_centroid, the_hardest_eight])
def test_losses_that_mix_some_rows_are_refused(
    of_logits: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    with pytest.raises(UsageError, match="depends on other rows"):
        check_separable(LogitLoss(of_logits))


class Maps:
    student_taps: Sequence[str] = ("body",)
    teacher_taps: Sequence[str] = ()

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        attention = F.normalize(student.features["body"].square().mean(dim=1).flatten(1))
        true = F.cross_entropy(student.logits, labels, torch.ones(10), reduction="none")
        return true + attention.sum(dim=1)


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh())
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))


def test_a_loss_is_tried_with_the_classes_and_shapes_of_the_run() -> None:
    check(Conv(), Maps())
    with pytest.raises(UsageError, match=r"^distill.loss: fails in a trial on made-up") as raised:
        check(Plain(), LogitLoss(lambda student, labels, teacher: student[:, 20]))
    assert "\n" not in str(raised.value)


# --- before a charge --------------------------------------------------------------------------


def test_a_client_tries_the_weights_of_the_request_before_it_is_charged(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    own = f"student.module={__name__}.OpensAtOneValue"
    world = ClientWorld(tiny_config("student=custom", own), tmp_path)
    world.student.flag.fill_(2)  # type: ignore[operator,union-attr]
    world.grid.send_and_receive([world.request(1)])
    assert "the output of one example depends" in world.grid.failure()
    assert world.ledger().entries() == []
    world.student.flag.fill_(1)  # type: ignore[operator,union-attr]
    assert world.train(2).content.array_records
    bench = world.client().workbench
    assert bench._tried
    bench._tried = ""
    before = torch.random.get_rng_state()
    bench.check_weights()
    assert torch.equal(torch.random.get_rng_state(), before)
