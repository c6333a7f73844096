"""Rule 12: post-processing takes public data only; private data is an error at the call."""

from collections.abc import Callable
from dataclasses import fields

import pytest

from fedlite.compress.prune import recover
from fedlite.compress.stage import compress_student
from fedlite.config import AugmentConfig, CompressConfig, DistillConfig, TeacherConfig
from fedlite.data import ClientData, PublicData
from fedlite.distill.losses import build_loss
from fedlite.distill.public import distil_on_public
from fedlite.distill.teacher import train_teacher
from fedlite.distill.warm_start import warm_start
from tests.privacy.world import ClientWorld


def test_public_and_private_are_unrelated_types() -> None:
    assert not issubclass(ClientData, PublicData)
    assert not issubclass(PublicData, ClientData)
    assert "client_id" in {field.name for field in fields(ClientData)}


def test_functions_that_see_public_data_refuse_private_data(
    client_world: Callable[..., ClientWorld], tmp_path: object
) -> None:
    world = client_world()
    private = world.splits.client(0)
    student, teacher = world.student, world.teacher
    public, augment = world.splits.public, AugmentConfig()
    calls: list[Callable[[], object]] = [
        lambda: train_teacher(teacher, private, public, TeacherConfig("t", "m"), augment, 0),
        lambda: train_teacher(teacher, public, private, TeacherConfig("t", "m"), augment, 0),
        lambda: warm_start(student, teacher, private, DistillConfig(), augment, 0),
        lambda: distil_on_public(
            student, teacher, private, steps=1, batch_size=4, learning_rate=0.1,
            weight_decay=0.0, loss=build_loss(DistillConfig()), augment=augment, seed=0,
        ),
        lambda: recover(student, student, private, CompressConfig(), augment, {}, 0),
        lambda: compress_student(
            student, world.splits.task, private, CompressConfig(), augment, tmp_path, 0
        ),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(TypeError, match=r"[Pp]ublic"):
            call()
