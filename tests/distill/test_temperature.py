"""Temperature scaling on public data, and the cascade's curves."""

import numpy as np
import pytest
import torch

from fedlite.base.calibration import calibration_error, probabilities_of, reliability
from fedlite.data.types import PublicData
from fedlite.distill.cascade import cascade_curve, choose_point, thresholds_of
from fedlite.distill.options import CascadeOptions
from fedlite.distill.temperature import fit_temperature


def drawn(temperature: float, count: int = 4000) -> tuple[np.ndarray, PublicData]:
    """Logits that are too large by a factor, and labels drawn from what they should say."""
    draws = np.random.default_rng(3)
    true = draws.normal(size=(count, 5)) * 2
    shares = probabilities_of(true)
    labels = [int(draws.choice(5, p=row)) for row in shares]
    return true * temperature, PublicData(torch.zeros(count, 1), torch.tensor(labels))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_planted_is_found(temperature: float) -> None:
    logits, public = drawn(temperature)
    assert fit_temperature(logits, public) == pytest.approx(temperature, rel=0.06)


def test_it_lowers_the_calibration_error_and_keeps_every_answer() -> None:
    logits, public = drawn(3.0)
    right = logits.argmax(axis=1) == public.labels.numpy()
    found = fit_temperature(logits, public)
    before, after = (
        calibration_error(reliability(probabilities_of(logits, one).max(axis=1), right))
        for one in (1.0, found)
    )
    assert after < 0.03 < 0.1 < before


def test_a_few_examples_that_are_all_right_make_no_model_certain() -> None:
    logits = np.tile([2.0, 0.0, 0.0], (20, 1))
    public = PublicData(torch.zeros(20, 1), torch.zeros(20, dtype=torch.long))
    sure = probabilities_of(logits, fit_temperature(logits, public)).max()
    assert 0.9 < sure < 0.99


CONFIDENCES = np.array([0.2, 0.4, 0.6, 0.9])
STUDENT = np.array([False, False, True, True])
TEACHER = np.array([True, False, True, False])


def test_a_curve_runs_from_the_student_to_the_teacher() -> None:
    thresholds = thresholds_of(CONFIDENCES)
    curve = cascade_curve(CONFIDENCES, STUDENT, TEACHER, thresholds)
    assert (curve[0].share, curve[0].accuracy) == (0.0, 0.5)
    assert (curve[-1].share, curve[-1].accuracy) == (1.0, 0.5)
    assert max(one.accuracy for one in curve) == 0.75
    assert [one.share for one in curve] == sorted(one.share for one in curve)


def test_the_threshold_is_the_one_wished_for() -> None:
    curve = cascade_curve(CONFIDENCES, STUDENT, TEACHER, thresholds_of(CONFIDENCES))
    chosen = {
        "share": curve[choose_point(curve, CascadeOptions(share=0.3))],
        "none": curve[choose_point(curve, CascadeOptions(share=0.0))],
        "accuracy": curve[choose_point(curve, CascadeOptions(accuracy=0.7))],
        "too much": curve[choose_point(curve, CascadeOptions(accuracy=0.99))],
    }
    assert {name: (one.share, one.accuracy) for name, one in chosen.items()} == {
        "share": (0.25, 0.75),
        "none": (0.0, 0.5),
        "accuracy": (0.25, 0.75),
        "too much": (0.25, 0.75),
    }
