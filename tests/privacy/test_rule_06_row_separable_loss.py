"""Rule 6: under DP the loss of one row depends on no other row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fedlite.base.errors import UsageError
from fedlite.distill.answers import Answers
from fedlite.distill.loss import LogitLoss, Loss, build_loss, check_separable
from fedlite.distill.options import DistillOptions
from fedlite.runs.config import Config
from tests.conftest import TINY
from tests.e2e.command import refusal
from tests.privacy.planted import caught
from tests.privacy.world import ClientWorld

ROWS, CLASSES, WIDTH = 6, 10, 7
HIDDEN = "hidden"  # a module of student and of teacher that a loss taps


def check_rows_separate(loss: Loss) -> None:
    """Another row 0 leaves the gradients of all other rows as they were, in logits and features."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(ROWS) % CLASSES

    def changed(values: Tensor) -> Tensor:
        other = values.clone()
        other[0] = 3 * torch.randn(values.shape[1], generator=generator)
        return other

    values = [torch.randn((ROWS, n), generator=generator) for n in (CLASSES, CLASSES)]
    values += [torch.randn((ROWS, WIDTH), generator=generator) for _ in range(2)]
    others = [changed(value) for value in values]

    def gradient(student: Tensor, taught: Tensor, feature: Tensor, hint: Tensor) -> Tensor:
        leaves = [value.clone().requires_grad_() for value in (student, feature)]
        answers = (
            Answers(leaves[0], dict.fromkeys(loss.student_taps, leaves[1])),
            Answers(taught, dict.fromkeys(loss.teacher_taps, hint)),
        )
        torch.autograd.backward(loss(answers[0], labels, answers[1]).sum())
        found = [torch.zeros_like(one) if one.grad is None else one.grad for one in leaves]
        return torch.cat(found, dim=1)

    moved = (gradient(*values) - gradient(*others))[1:].abs().max()
    assert moved < 1e-6, f"the gradients of other rows moved by {moved:.2g}"


@dataclass(frozen=True)
class Hint:
    """A loss of one tapped feature of the student and one of the teacher."""

    of_features: Callable[[Tensor, Tensor], Tensor]
    student_taps: Sequence[str] = (HIDDEN,)
    teacher_taps: Sequence[str] = (HIDDEN,)

    def __call__(self, student: Answers, labels: Tensor, teacher: Answers) -> Tensor:
        true = F.cross_entropy(student.logits, labels, reduction="none")
        return true + self.of_features(student.features[HIDDEN], teacher.features[HIDDEN])


@pytest.mark.parametrize("kind", ["soft", "hard", "decoupled"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_offered_losses_separate(kind: str, alpha: float) -> None:
    loss = build_loss(DistillOptions(loss=kind, alpha=alpha, temperature=3.0))
    check_rows_separate(loss)
    check_separable(loss)


def squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).square().mean(dim=1)


def test_a_loss_of_features_that_looks_at_its_own_row_alone_separates() -> None:
    check_rows_separate(Hint(squared_difference))
    check_separable(Hint(squared_difference))


# --- planted bugs ---------------------------------------------------------------------------


def batch_standardised(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    normal = (student - student.mean(dim=0)) / (student.std(dim=0) + 1e-6)
    return F.cross_entropy(normal, labels, reduction="none")


def centred_teacher(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    taught = (teacher - teacher.mean(dim=0)).softmax(dim=1)
    return F.cross_entropy(student, taught, reduction="none")


def weighted_by_the_hardest_rows(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    losses = F.cross_entropy(student, labels, reduction="none")
    return losses * losses.detach().softmax(dim=0)


def distances_between_features(student: Tensor, teacher: Tensor) -> Tensor:
    gap = torch.cdist(student, student.detach()) - torch.cdist(teacher, teacher)
    return gap.square().mean(dim=1)


def hints_centred_over_the_batch(student: Tensor, teacher: Tensor) -> Tensor:
    """The student's features are left alone; the teacher's are not."""
    return squared_difference(student, teacher - teacher.mean(dim=0))


@pytest.mark.parametrize(
    "loss",
    [
        build_loss(DistillOptions(loss="relational")),
        LogitLoss(batch_standardised),
        LogitLoss(centred_teacher),
        LogitLoss(weighted_by_the_hardest_rows),
        Hint(distances_between_features),
        Hint(hints_centred_over_the_batch),
    ],
    ids=[
        "relational",
        "batch-standardised",
        "centred teacher",
        "hardest rows",
        "distances between features",
        "hints centred over the batch",
    ],
)
def test_planted_losses_are_caught_and_refused(loss: Loss) -> None:
    with caught("the gradients of other rows moved"):
        check_rows_separate(loss)
    with pytest.raises(UsageError, match="depends on other rows"):
        check_separable(loss)


def by_the_length_of_the_batch(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    """Every other example makes this one's gradient smaller, whoever it is."""
    return F.cross_entropy(student, labels, reduction="none") / len(student)


def one_for_all(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    return F.cross_entropy(student, labels, reduction="mean")


def of_constants(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    return (student * 0).sum(dim=1) + 1


def of_the_teacher_alone(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    return F.cross_entropy(teacher, labels, reduction="none")


@pytest.mark.parametrize(
    ("of_logits", "words"),
    [
        (by_the_length_of_the_batch, "depends on other rows"),
        (one_for_all, r"shape \(\) for 1 examples"),
        (of_constants, "no gradient reaches"),
        (of_the_teacher_alone, "no gradient reaches"),
    ],
)
def test_losses_without_a_gradient_for_each_example_are_refused(
    of_logits: Callable[[Tensor, Tensor, Tensor], Tensor], words: str
) -> None:
    with pytest.raises(UsageError, match=f"distill.loss: .*{words}"):
        check_separable(LogitLoss(of_logits))


# --- where such a loss is refused -----------------------------------------------------------


def test_a_private_run_of_relational_distillation_is_refused_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    options = (*TINY, "distill=relational", f"run.dir={folder}")
    for privacy in ("example", "both", "aggregate"):
        line = refusal(capsys, 2, "federate", *options, f"privacy={privacy}")
        assert "distill.loss" in line
        assert "depends on other rows" in line
    assert not list(folder.rglob("*.pt"))


def test_a_client_refuses_it_too_whatever_its_server_let_pass(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    world = ClientWorld(tiny_config("distill=relational"), tmp_path / "private")
    world.grid.send_and_receive([world.request(1)])
    line = "distill.loss=relational: the loss of one example depends on other rows"
    assert line in world.grid.failure()
    assert world.ledger().entries() == []
    for privacy in ("none", "client"):
        world = ClientWorld(tiny_config("distill=relational", f"privacy={privacy}"), tmp_path)
        assert world.train(1).content.array_records
