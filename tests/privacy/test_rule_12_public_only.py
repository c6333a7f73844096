"""Rule 12: post-processing takes public data only; private data is an error at the call."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from torch import nn

from fedlite.compress import compare, exporting, judge
from fedlite.compress.onnx import quantize
from fedlite.compress.onnx.export import export_onnx
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink import norms, qat, recover, schedule, sensitivity, shrinker
from fedlite.data.options import AugmentOptions
from fedlite.data.types import ClientData, PublicData
from fedlite.distill import join, keep, public, teacher, temperature
from fedlite.distill.loss import build_loss
from fedlite.distill.options import DistillOptions, JoinOptions, TeacherOptions
from fedlite.distill.warm_start import warm_start
from tests.privacy.planted import caught
from tests.privacy.world import ClientWorld
from tests.tasks import shaped

Call = Callable[[Any], object]

CONFIG = CompressOptions(recovery_steps=1, calibration_size=4)
TEACHER = TeacherOptions("t", "m", epochs=1)
AUGMENT = AugmentOptions()
JOIN = JoinOptions(steps=1)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a network for images of digits."""
    path = tmp_path_factory.mktemp("exported") / "student.onnx"
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    export_onnx(network.eval(), shaped((1, 8, 8), 10), path, CONFIG.opset)
    return path


def calls_of(world: ClientWorld, folder: Path, onnx: Path) -> dict[str, tuple[ModuleType, Call]]:
    """Everything that learns after or beside DP-SGD, and the module in which it is guarded."""
    student, network, splits = world.student, world.teacher, world.splits
    options: dict[str, Any] = {
        "steps": 1, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0,
        "loss": build_loss(DistillOptions()), "augment": AUGMENT, "seed": 0,
    }  # fmt: skip
    return {
        "train_teacher": (
            teacher,
            lambda data: teacher.train_teacher(network, data, splits.public, TEACHER, AUGMENT, 0),
        ),
        "stop_teacher_early": (
            teacher,
            lambda data: teacher.train_teacher(network, splits.public, data, TEACHER, AUGMENT, 0),
        ),
        "warm_start": (
            public,
            lambda data: warm_start(student, network, data, DistillOptions(), AUGMENT, 0),
        ),
        "join": (
            join,
            lambda data: join.join_students(
                {"a": student}, data, splits.public, JOIN, AUGMENT, "accuracy", 0
            ),
        ),
        "choose_joined": (
            join,
            lambda data: join.join_students(
                {"a": student}, splits.public, data, JOIN, AUGMENT, "accuracy", 0
            ),
        ),
        "keep": (keep, lambda data: keep.keep_student(student, student, data, "best")),
        "fit_temperature": (
            temperature,
            lambda data: temperature.fit_temperature(np.zeros((len(data), 10)), data),
        ),
        "distil": (
            public,
            lambda data: public.distil_on_public(
                student, public.teacher_answers(network, options["loss"]), data, **options
            ),
        ),
        "recover": (
            recover,
            lambda data: recover.recover(student, student, data, CONFIG, AUGMENT, {}, 0),
        ),
        "prune": (
            schedule,
            lambda data: schedule.prune_and_recover(
                student, student, splits.task, data, CONFIG, AUGMENT, 0
            ),
        ),
        "fold_norms": (
            norms,
            lambda data: norms.fold_norms(student, splits.task, data, CONFIG, AUGMENT, 0),
        ),
        "train_quantization_aware": (
            qat,
            lambda data: qat.train_quantization_aware(
                student, student, splits.task, data, CONFIG, AUGMENT, 0
            ),
        ),
        "shrink": (
            shrinker,
            lambda data: shrinker.Shrinker(student, network, splits.task, data, AUGMENT, 0),
        ),
        "judge": (
            judge,
            lambda data: judge.compress_student(
                shrinker.Shrinker(student, network, splits.task, splits.public, AUGMENT, 0),
                data,
                CONFIG,
                folder / "models",
            ),
        ),
        "compare": (compare, lambda data: compare.compare(onnx, student, data)),
        "gradients": (
            sensitivity,
            lambda data: sensitivity.public_gradients(student, network, data, 0),
        ),
        "export": (
            exporting,
            lambda data: exporting.export_file(
                "onnx", student, splits.task, folder / "own.onnx", CONFIG, data, quantized=True
            ),
        ),
        "calibrate": (
            quantize,
            lambda data: quantize.quantize_onnx(onnx, folder / "int8.onnx", CONFIG, data),
        ),
    }


NAMES = (
    "train_teacher", "stop_teacher_early", "warm_start", "keep", "distil", "recover", "prune",
    "fold_norms", "train_quantization_aware", "shrink", "judge", "compare", "gradients", "export",
    "calibrate", "fit_temperature", "join", "choose_joined",
)  # fmt: skip


# --- the checks -----------------------------------------------------------------------------


def check_private_data_is_refused(call: Call, private: ClientData) -> None:
    refusal = ""
    try:
        call(private)
    except TypeError as error:
        refusal = str(error)
    assert "PublicData" in refusal, "private data was accepted"


def check_types_are_unrelated(private: type, public: type) -> None:
    assert not issubclass(private, public), "private data counts as public"
    assert not issubclass(public, private)


@pytest.fixture
def world(client_world: Callable[..., ClientWorld]) -> ClientWorld:
    return client_world("student=mlp")


@pytest.mark.parametrize("name", NAMES)
def test_functions_that_see_public_data_refuse_private_data(
    name: str, world: ClientWorld, tmp_path: Path, onnx: Path
) -> None:
    calls = calls_of(world, tmp_path, onnx)
    assert set(calls) == set(NAMES)
    _, call = calls[name]
    check_private_data_is_refused(call, world.splits.client(0))


def test_public_and_private_are_unrelated_types() -> None:
    check_types_are_unrelated(ClientData, PublicData)
    assert "client_id" in {field.name for field in fields(ClientData)}


# --- planted bugs ---------------------------------------------------------------------------


def anything_with_inputs(data: Any) -> None:
    """A guard that looks at what an object has, not at what it is."""
    if not (hasattr(data, "inputs") and hasattr(data, "labels")):
        raise TypeError("only PublicData may be used here")


@pytest.mark.parametrize(
    "name",
    [
        *("train_teacher", "keep", "distil", "recover", "calibrate", "join", "choose_joined"),
        "fit_temperature",
    ],
)
def test_planted_guards_are_caught(
    name: str, world: ClientWorld, tmp_path: Path, onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (teacher, join, keep, public, recover, quantize, temperature):
        monkeypatch.setattr(module, "require_public", anything_with_inputs)
    _, call = calls_of(world, tmp_path, onnx)[name]
    with caught("private data was accepted"):
        check_private_data_is_refused(call, world.splits.client(0))


def test_a_planted_function_without_a_guard_is_caught(world: ClientWorld) -> None:
    def fine_tune(data: Any) -> None:
        assert isinstance(world.student, nn.Module)
        world.student(data.inputs[:4])

    with caught("private data was accepted"):
        check_private_data_is_refused(fine_tune, world.splits.client(0))


def test_the_planted_bug_private_as_a_kind_of_public_is_caught() -> None:
    class Private(PublicData):
        """A client's data that inherits from public data."""

    with caught("private data counts as public"):
        check_types_are_unrelated(Private, PublicData)
