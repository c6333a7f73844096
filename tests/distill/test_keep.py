"""The student that ships: the better on public validation data, and never the worse."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fedlite.data.types import PublicData
from fedlite.distill.keep import keep_student

CLASSES = 3


class Answering(nn.Module):
    """Answers the class that its table holds for an input's number."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.register_buffer("answers", answers)

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.one_hot(self.answers[inputs[:, 0].long()], CLASSES).float()


class Scaled(nn.Module):
    """Logits times a number: surer of the same answers the larger it is."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, logits: Tensor) -> Tensor:
        return self.scale * logits


def numbered(labels: Tensor) -> PublicData:
    return PublicData(torch.arange(len(labels), dtype=torch.float32).unsqueeze(1), labels)


answers = st.lists(st.tuples(*[st.integers(0, CLASSES - 1)] * 3), min_size=1, max_size=40)


@given(answers)
def test_best_is_never_the_worse_on_validation_data(rows: list[tuple[int, int, int]]) -> None:
    labels, public, federated = torch.tensor(rows).T
    kept = keep_student(Answering(public), Answering(federated), numbered(labels), "best")
    right = {
        "public_student": int((public == labels).sum()),
        "federated_student": int((federated == labels).sum()),
    }
    assert right[kept.student] == max(right.values())
    if len(set(right.values())) == 1:
        assert kept.student == "federated_student"
    assert kept.validation is not None
    assert kept.validation.first_right == right["public_student"]
    assert kept.validation.second_right == right["federated_student"]
    assert kept.validation.both_right == int(((public == labels) & (federated == labels)).sum())


@given(answers)
def test_last_is_the_federated_student_whatever_validation_data_says(
    rows: list[tuple[int, int, int]],
) -> None:
    labels, public, federated = torch.tensor(rows).T
    kept = keep_student(Answering(public), Answering(federated), numbered(labels), "last")
    assert kept.student == "federated_student"
    assert kept.validation is not None


@pytest.mark.parametrize("surer", ["public_student", "federated_student"])
def test_of_two_that_are_right_equally_often_the_surer_ships(surer: str) -> None:
    labels = torch.tensor([0, 1, 2, 0])
    sure, unsure = (nn.Sequential(Answering(labels), Scaled(scale)) for scale in (3.0, 0.5))
    public, federated = (sure, unsure) if surer == "public_student" else (unsure, sure)
    assert keep_student(public, federated, numbered(labels), "best").student == surer
    assert keep_student(public, federated, numbered(labels), "last").student == "federated_student"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_nothing_to_judge_by_keeps_the_federated_student(keep: str) -> None:
    nobody = torch.zeros(0, dtype=torch.int64)
    kept = keep_student(Answering(nobody), Answering(nobody), numbered(nobody), keep)
    assert kept.student == "federated_student"
    assert kept.validation is None


def test_macro_f1_chooses_where_it_is_asked_for() -> None:
    """The public-only student answers the frequent class alone; the other finds the rare one."""
    labels = torch.tensor([0] * 90 + [1] * 10)
    public = torch.zeros(100, dtype=torch.int64)
    federated = torch.tensor([1] * 12 + [0] * 78 + [1] * 10)
    students = (Answering(public), Answering(federated), numbered(labels), "best")
    assert keep_student(*students).student == "public_student"
    assert keep_student(*students).scores is None
    kept = keep_student(*students, "macro_f1")
    assert kept.student == "federated_student"
    assert kept.scores is not None
    assert kept.scores.gained > 0
