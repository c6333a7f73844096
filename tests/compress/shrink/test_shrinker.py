"""The shrinker: every smaller form of a student is made once for the options that decide it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.shrinker import Shrinker, training_steps
from fedlite.data.options import AugmentOptions
from fedlite.data.types import ClientData
from tests.compress.conftest import Digits
from tests.second_device import SECOND, Second

QUICK = CompressOptions(ratio=0.3, recovery_steps=5, qat_steps=3)


@pytest.fixture
def shrinker(student: nn.Module, digits: Digits) -> Shrinker:
    return Shrinker(student, student, digits.task, digits.public, AugmentOptions(), seed=0)


def test_private_data_is_refused(student: nn.Module, digits: Digits) -> None:
    private: Any = ClientData(0, digits.public.inputs, digits.public.labels)
    with pytest.raises(TypeError, match="ClientData"):
        Shrinker(student, student, digits.task, private, AugmentOptions(), seed=0)


def test_options_that_do_not_matter_share_a_model(shrinker: Shrinker) -> None:
    pruned = shrinker.pruned(QUICK)
    assert shrinker.pruned(replace(QUICK, quantization="fp16", min_snr_db=3.0)) is pruned
    assert shrinker.quantizable(QUICK) is pruned
    assert shrinker.folded(replace(QUICK, ratio=0.7)) is shrinker.folded(QUICK)


@pytest.mark.parametrize(
    "change",
    [
        {"ratio": 0.5},
        {"criterion": "l1"},
        {"schedule": "iterative"},
        {"round_to": 2},
        {"sparsity": 0.2},
        {"recovery_steps": 6},
        {"recovery_learning_rate": 0.01},
        {"layer_ratios": {"features.0": 0.5}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_options_that_matter_make_another_model(
    shrinker: Shrinker, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[CompressOptions] = []

    def prune(*arguments: Any) -> nn.Module:
        made.append(arguments[4])
        return nn.Linear(1, 1)

    monkeypatch.setattr("fedlite.compress.shrink.shrinker.prune_and_recover", prune)
    shrinker.pruned(QUICK)
    shrinker.pruned(replace(QUICK, **change))
    assert made == [QUICK, replace(QUICK, **change)]


def test_the_student_stays_as_it_is(shrinker: Shrinker) -> None:
    before = {name: value.clone() for name, value in shrinker.student.state_dict().items()}
    shrinker.quantizable(replace(QUICK, quantization="qat"))
    after = shrinker.student.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_steps_are_counted_before_they_are_taken(student: nn.Module, digits: Digits) -> None:
    config = replace(QUICK, quantization="qat")
    taken: list[int] = []
    shrinker = Shrinker(
        student, student, digits.task, digits.public, AugmentOptions(), 0, taken.append
    )
    shrinker.quantizable(config)
    assert len(taken) == training_steps(config) == 8
    assert training_steps(replace(QUICK, ratio=0.0)) == 0
    assert training_steps(replace(QUICK, ratio=0.0, norms="fold", norm_steps=7)) == 7


def test_calibration_examples_are_drawn_once_each(shrinker: Shrinker, digits: Digits) -> None:
    drawn = shrinker.calibration(replace(QUICK, calibration_size=100))
    assert len(drawn) == 100
    assert len(torch.unique(drawn.inputs.flatten(1), dim=0)) > 95
    again = shrinker.calibration(replace(QUICK, calibration_size=100))
    assert torch.equal(drawn.inputs, again.inputs)
    assert len(shrinker.calibration(replace(QUICK, calibration_size=5000))) == len(digits.public)


@pytest.mark.parametrize("criterion", ["l2", "taylor"])
def test_recovery_on_another_device_ends_where_it_does_on_the_processor(
    student: nn.Module, digits: Digits, criterion: Any
) -> None:
    """All else of the making, and what is handed out, stays on the processor."""
    config = replace(
        QUICK, criterion=criterion, norms="fold", norm_steps=2, sparsity=0.2, quantization="qat"
    )
    made = []
    for device in (torch.device("cpu"), SECOND):
        before = Second.operations
        shrinker = Shrinker(
            *(student, student, digits.task, digits.public, AugmentOptions(), 0), device=device
        )
        made.append([shrinker.pruned(config), shrinker.quantizable(config)])
        assert (Second.operations > before) == (device == SECOND)
    for here, there in zip(*made, strict=True):
        found = there.state_dict()
        for name, value in here.state_dict().items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)
    assert {value.device.type for value in student.parameters()} == {"cpu"}
