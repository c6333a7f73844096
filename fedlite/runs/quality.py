"""How good and how sure the teacher and what ships are, and what their cascade comes to.

On the test set from the logits that measuring the files gave; what is fitted or chosen is so on
public data.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedlite.base.calibration import (
    Floats,
    calibration_error,
    error_by_chance,
    probabilities_of,
    reliability,
)
from fedlite.base.energy import ESTIMATE, MEASURED, estimated_joules
from fedlite.base.records import ModelKey
from fedlite.compress.compare import file_logits
from fedlite.compress.judge import PRUNED
from fedlite.compress.shrink.pruned_file import load_pruned
from fedlite.distill.cascade import Point, cascade_curve, thresholds_of
from fedlite.distill.evaluate import evaluate_logits
from fedlite.distill.temperature import ENOUGH, fit_temperature
from fedlite.models.cost import forward_flops
from fedlite.report.quality_sections import (
    AnswersFacts,
    CascadeFacts,
    EnergyEntry,
    PointEntry,
)
from fedlite.runs.facts import MODEL_STAGES, EvaluateFacts
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.stages.compress import MODELS_FOLDER

Logits = NDArray[np.float32]
Tested = dict[str, Logits]
"""By the name of a file in ``models/``, its logits (n, classes) on the test set."""

TEACHER = "teacher.onnx"


@dataclass(frozen=True)
class _File:
    """A file that is looked at closely: its names in the report and in ``models/``, and what it
    was made of. ``joules`` were measured; ``python`` is that of its runtime."""

    name: str
    file: str
    model: ModelKey
    precision: str
    joules: float | None
    python: str | None = None


@dataclass(frozen=True)
class _Answers:
    """What a file answers on some examples: probabilities, and which are right."""

    probabilities: Floats
    right: NDArray[np.bool_]

    @property
    def confidences(self) -> Floats:
        found: Floats = self.probabilities.max(axis=1)
        return found


def answers_facts(pipeline: Pipeline, found: EvaluateFacts, tested: Tested) -> AnswersFacts:
    """Quality of the teacher's ONNX file and of every file that ships and runs here; the cascade
    of the first that ships with the teacher.

    Args:
        pipeline: after its compression.
        found: what measuring found.
        tested: the files' logits on the test set.
    """
    public, test = pipeline.splits.public_validation, pipeline.splits.test
    facts: AnswersFacts = {"quality": {}}
    answered: dict[str, tuple[_Answers, _Answers]] = {}
    for one in _files(pipeline, found, tested):
        logits, temperature = tested[one.file], 1.0
        if enough := len(public) >= ENOUGH:
            path = pipeline.run.file(MODELS_FOLDER) / one.file
            on_public = file_logits(path, public.inputs.numpy(), one.python)
            temperature = fit_temperature(on_public, public)
        on_test = _answers(logits, test.labels.numpy(), temperature)
        if enough:
            known = _answers(on_public, public.labels.numpy(), temperature)
            answered[one.name] = (known, on_test)
        before = _answers(logits, test.labels.numpy(), 1.0)
        bins = reliability(on_test.confidences, on_test.right)
        facts["quality"][one.name] = {
            "model": one.model,
            "confusion": evaluate_logits(logits, test.labels, logits.shape[1]).confusion,
            "temperature": temperature,
            "calibrated_on": len(public) if enough else 0,
            "calibration_error": calibration_error(bins),
            "calibration_error_before": calibration_error(
                reliability(before.confidences, before.right)
            ),
            "error_by_chance": error_by_chance(on_test.confidences),
            "bins": [
                {
                    "examples": each.examples,
                    "confidence": each.confidence,
                    "accuracy": each.accuracy,
                }
                for each in bins
            ],
            "energy": _energy(pipeline, one),
        }
    if len(answered) > 1:
        student = next(name for name in answered if name != TEACHER)
        facts["cascade"] = _cascade(student, answered, len(public))
    return facts


def _files(pipeline: Pipeline, found: EvaluateFacts, tested: Tested) -> Iterator[_File]:
    """The teacher's file, then those that ship, ONNX first."""
    facts, converters = pipeline.run.facts["compress"], pipeline.config.compress.converters
    cost = found["models"]["teacher"]["cost"]
    yield _File(TEACHER, TEACHER, "teacher", "fp32", cost["joules"])
    entries = {one["name"]: one for one in facts["artefacts"]}
    for form, name in sorted(facts["shipped"].items(), key=lambda one: one[0] != "onnx"):
        entry = entries[name]
        file = (entry["file"] or "").rpartition("/")[2]
        if file in tested:
            joules = found["artefacts"][name]["cost"]["joules"]
            python = converters.get(form)
            yield _File(name, file, entry["model"], entry["precision"], joules, python)


def _answers(logits: Logits, labels: NDArray[np.int64], temperature: float) -> _Answers:
    return _Answers(probabilities_of(logits, temperature), logits.argmax(axis=1) == labels)


def _energy(pipeline: Pipeline, one: _File) -> EnergyEntry:
    task = pipeline.splits.task
    if one.model in MODEL_STAGES:
        model = pipeline.load(one.model)
    else:
        path = pipeline.run.file(MODELS_FOLDER) / f"{PRUNED}.pt"
        model = load_pruned(path, pipeline.config.student, task)
    operations = forward_flops(model, task.blank(1)) / 2
    if one.joules is not None:
        return {
            "operations": operations,
            "joules": one.joules,
            "measured": True,
            "source": MEASURED,
        }
    return {
        "operations": operations,
        "joules": estimated_joules(operations, one.precision) if operations else None,
        "measured": False,
        "source": ESTIMATE,
    }


def _cascade(
    student: str, answered: dict[str, tuple[_Answers, _Answers]], examples: int
) -> CascadeFacts:
    """Both curves, at the thresholds that public data suggest."""
    thresholds = thresholds_of(answered[student][0].confidences)
    public, test = (
        _points(cascade_curve(one.confidences, one.right, other.right, thresholds))
        for one, other in zip(answered[student], answered[TEACHER], strict=True)
    )
    return {
        "student": student,
        "teacher": TEACHER,
        "public": public,
        "test": test,
        "public_examples": examples,
    }


def _points(curve: Sequence[Point]) -> list[PointEntry]:
    return [
        {"threshold": one.threshold, "share": one.share, "accuracy": one.accuracy} for one in curve
    ]
