"""Class weights: from public labels alone, one number for each example's loss."""

import dataclasses

import pytest
import torch

from fedlite.data.options import AugmentOptions
from fedlite.data.types import PublicData
from fedlite.distill.answers import Answers
from fedlite.distill.class_weights import class_weights
from fedlite.distill.evaluate import predict_logits
from fedlite.distill.loss import build_loss, check_separable
from fedlite.distill.options import LossOptions, TeacherOptions
from fedlite.distill.teacher import train_teacher
from fedlite.models.mlp import MLP

WEIGHTS = (0.5, 3.0, 1.0, 2.0, 0.25)


def test_all_classes_weigh_the_same_and_an_example_one_on_average() -> None:
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    weights = torch.tensor(class_weights(labels, 3, "balanced"))
    assert weights[labels].mean() == pytest.approx(1)
    sums = torch.bincount(labels) * weights
    assert sums.tolist() == pytest.approx([100 / 3] * 3)
    assert class_weights(labels, 4, "balanced")[3] == pytest.approx(100 / 4)  # as of one example
    assert class_weights(labels, 3, "none") == ()


@pytest.mark.parametrize("name", ["soft", "hard"])
def test_every_loss_is_weighed_by_the_class_of_its_example(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (Answers(torch.randn(6, 5, generator=generator)) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 3, 4, 1])
    plain, weighed = (build_loss(LossOptions(name), some) for some in ((), WEIGHTS))
    expected = plain(student, labels, teacher) * torch.tensor(WEIGHTS)[labels]
    torch.testing.assert_close(weighed(student, labels, teacher), expected)
    check_separable(weighed)


def test_a_teacher_that_weighs_classes_answers_the_rare_one_more_often() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(800) % 20 == 0).long()
    inputs = torch.randn(800, 2, generator=generator) + labels[:, None]
    public = PublicData(inputs, labels)
    options = TeacherOptions("mlp", "fedlite.models.mlp.MLP", epochs=5, patience=5)
    answered = []
    for how in ("none", "balanced"):
        torch.manual_seed(0)
        teacher = MLP((2,), 2, [8])
        config = dataclasses.replace(options, class_weights=how)
        train_teacher(teacher, public, public, config, AugmentOptions(), seed=0)
        answered.append(int(predict_logits(teacher, inputs).argmax(dim=1).sum()))
    assert answered[1] > 2 * answered[0] + 40
