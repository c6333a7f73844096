"""Judging an exported file against its model, and refusing it."""

import copy
import math
import sys

import numpy as np
import pytest
import torch

from fedlite.base.errors import FedliteError, UsageError
from fedlite.compress.compare import (
    Comparison,
    check_structure,
    compare,
    runs_in,
    snr_db,
    why_refused,
)
from fedlite.data.types import PublicData
from tests.compress.conftest import Digits

BOUNDS = {"full_score": 0.9, "min_snr_db": 20.0, "max_accuracy_drop": 0.01}


def test_a_faithful_file_agrees_everywhere(student, student_path, digits: Digits):
    found = compare(student_path, student, digits.public)
    assert found.snr_db > 100
    assert found.agreement == 1
    assert found.accuracy == found.reference_accuracy > 0.9


def test_the_figures_are_those_of_the_file(student, student_path, digits: Digits):
    other = copy.deepcopy(student)
    with torch.no_grad():
        other.classifier[-1].bias[3] += 4
        chosen, reference = (net(digits.public.inputs).argmax(1) for net in (student, other))
    found = compare(student_path, other, digits.public)
    assert found.agreement == pytest.approx(float((chosen == reference).float().mean()))
    labels = digits.public.labels
    assert found.accuracy == pytest.approx(float((chosen == labels).float().mean()))
    assert found.reference_accuracy == pytest.approx(float((reference == labels).float().mean()))
    assert 0 < found.snr_db < 20


def test_another_python_answers_alike(student, student_path, digits: Digits):
    few = PublicData(digits.public.inputs[:50], digits.public.labels[:50])
    assert runs_in(student_path, sys.executable)
    assert compare(student_path, student, few, sys.executable) == compare(
        student_path, student, few
    )


def test_the_signal_to_noise_ratio_in_decibels():
    reference = np.full((2, 5), 3.0, np.float32)
    assert snr_db(reference, reference * np.float32(1.1)) == pytest.approx(20, abs=1e-3)
    assert snr_db(reference, reference) == 200
    assert snr_db(reference, np.full_like(reference, np.nan)) == -200
    assert snr_db(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)) == -200
    assert math.isfinite(snr_db(reference, reference * np.float32(1e30)))


def test_private_or_test_data_judge_nothing(student, student_path, digits: Digits):
    with pytest.raises(TypeError, match="PublicData"):
        compare(student_path, student, digits.test)


@pytest.mark.parametrize(
    ("snr", "accuracy", "said"),
    [
        (20.0, 0.89, []),
        (200.0, 0.95, []),
        (19.9, 0.95, ["19.9 dB", "min_snr_db=20"]),
        (30.0, 0.88, ["0.8800", "0.0200", "max_accuracy_drop=0.01"]),
        (-200.0, 0.1, ["min_snr_db", "max_accuracy_drop"]),
    ],
)
def test_refusals_name_the_numbers_and_the_bounds(snr, accuracy, said):
    line = why_refused(Comparison(snr, 1.0, accuracy, 0.9, macro_f1=0.9), **BOUNDS)
    assert bool(line) == bool(said)
    assert all(part in line for part in said)
    assert "\n" not in line


def test_missing_and_damaged_files_are_one_line(student, student_path, digits: Digits, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        compare(tmp_path / "none.onnx", student, digits.public)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(student_path.read_bytes()[:900])
    for python in (None, sys.executable):
        with pytest.raises(FedliteError, match="damaged") as caught:
            compare(damaged, student, digits.public, python)
        assert "\n" not in str(caught.value)


def test_a_format_without_its_runtime_is_said_in_one_line(digits: Digits, tmp_path):
    path = tmp_path / "student.pte"
    path.write_bytes(b"")
    with pytest.raises(FedliteError, match=r"pip install 'fedlite\[executorch\]'"):
        check_structure(path, digits.task)
