"""Evaluation: every model on the test set and its costs, in the runtime that serves it."""

import logging
from pathlib import Path

import torch
from torch import nn

from fedlite.base.errors import FedliteError
from fedlite.base.records import Cost, Measurement, ModelKey
from fedlite.compress.compare import runs_in
from fedlite.compress.exporting import export_file
from fedlite.compress.format import suffix_of
from fedlite.compress.judge import FEDERATED
from fedlite.compress.measure import measure_eager, measure_file
from fedlite.distill.keep import compare_pairs, compare_scores
from fedlite.models.build import count_parameters
from fedlite.runs.facts import (
    BaselineFacts,
    CostFacts,
    EvaluateFacts,
    MeasurementFacts,
    paired_facts,
    scores_facts,
)
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.quality import Tested, answers_facts
from fedlite.runs.stages.compress import COMPRESSED, MODELS_FOLDER

log = logging.getLogger(__name__)

STUDENTS: tuple[ModelKey, ...] = ("public_student", FEDERATED)
FULL_MODELS: tuple[ModelKey, ...] = ("teacher", *STUDENTS)


def run(pipeline: Pipeline) -> EvaluateFacts:
    """Measure all that the compression made, and the models before it."""
    facts, config = pipeline.run.facts["compress"], pipeline.config.compress
    metric, measured_as = pipeline.config.dataset.metric, pipeline.measured_as
    artefacts = facts["artefacts"]
    full = {name: pipeline.load(name) for name in FULL_MODELS}
    parameters = {name: count_parameters(model) for name, model in full.items()}
    parameters |= dict.fromkeys(COMPRESSED, facts["parameters_after"])
    others = [name for name in config.formats if name != "onnx"]
    kept: ModelKey = facts.get("kept", FEDERATED)
    also_eager: tuple[ModelKey, ...] = ("teacher", kept) if config.measure.eager else ()
    found: EvaluateFacts = {"models": {}, "artefacts": {}, "baselines": []}
    tested: Tested = {}
    total = len(full) + len(others) + len(also_eager) + 1 + len(artefacts)
    with pipeline.progress.stage("measure", total=total) as bar:
        for name, model in full.items():
            found["models"][name] = _export_and_measure(pipeline, model, name, "onnx", tested)
            bar.advance(**{measured_as: found["models"][name][metric]})
        first, second = (torch.from_numpy(tested[f"{name}.onnx"]) for name in STUDENTS)
        labels = pipeline.splits.test.labels
        found["tested_pair"] = paired_facts(compare_pairs(first, second, labels))
        if metric == "macro_f1":
            found["tested_scores"] = scores_facts(compare_scores(first, second, labels))
        for format_name in others:
            found["baselines"] += _teacher_baseline(pipeline, full["teacher"], format_name)
            bar.advance()
        for name in also_eager:
            found["baselines"] += _eager(pipeline, full[name], name, found["models"][name])
            bar.advance()
        if facts["folded_norms"]:
            path = pipeline.run.file(MODELS_FOLDER) / "folded_student.onnx"
            measured = _measure(pipeline, path, "onnx", facts["parameters_folded"], tested)
            found["models"]["folded_student"] = measured
        bar.advance()
        for artefact in artefacts:
            file, key, format_name = artefact["file"], artefact["model"], artefact["format"]
            if file and runs_in(pipeline.run.file(file), config.converters.get(format_name)):
                path = pipeline.run.file(file)
                measured = _measure(pipeline, path, format_name, parameters[key], tested)
                found["artefacts"][artefact["name"]] = measured
                if format_name == "onnx" and key in COMPRESSED:
                    found["models"][key] = measured
            bar.advance()
        if ships := found["artefacts"].get(facts["shipped"].get("onnx", "")):
            bar.advance(0, **{measured_as: ships[metric]})
    return {**found, **answers_facts(pipeline, found, tested)}


def _teacher_baseline(
    pipeline: Pipeline, teacher: nn.Module, format_name: str
) -> list[BaselineFacts]:
    """The teacher's fp32 in another format, by which that format's files are judged.

    Empty where the teacher cannot be converted or this machine cannot run it.
    """
    path = pipeline.run.file(MODELS_FOLDER) / f"teacher{suffix_of(format_name)}"
    if not runs_in(path, pipeline.config.compress.converters.get(format_name)):
        return []
    try:
        measurement = _export_and_measure(pipeline, teacher, "teacher", format_name, {})
    except FedliteError as error:
        log.warning("no teacher in %s: %s", format_name, error)
        return []
    return [_baseline("teacher", format_name, measurement)]


def _export_and_measure(
    pipeline: Pipeline, model: nn.Module, name: str, format_name: str, tested: Tested
) -> MeasurementFacts:
    """Measures of ``model`` as an fp32 file of its own in ``models/``."""
    config = pipeline.config.compress
    path = pipeline.run.file(MODELS_FOLDER) / f"{name}{suffix_of(format_name)}"
    export_file(format_name, model, pipeline.splits.task, path, config, None, quantized=False)
    return _measure(pipeline, path, format_name, count_parameters(model), tested)


def _measure(
    pipeline: Pipeline, path: Path, format_name: str, parameters: int, tested: Tested
) -> MeasurementFacts:
    """Quality and cost of a file; its logits on the test set go into ``tested``."""
    config, splits = pipeline.config.compress, pipeline.splits
    measurement = measure_file(
        path,
        splits.test,
        splits.task.num_classes,
        parameters,
        config.measure,
        python=config.converters.get(format_name),
    )
    assert measurement.logits is not None
    tested[path.name] = measurement.logits
    return _measurement_facts(measurement)


def _eager(
    pipeline: Pipeline, model: nn.Module, key: ModelKey, quality: MeasurementFacts
) -> list[BaselineFacts]:
    """Eager torch as a baseline; empty where the model cannot go to another process."""
    measure, task = pipeline.config.compress.measure, pipeline.splits.task
    try:
        cost = measure_eager(model, measure, task.input_shape, task.input_type)
    except FedliteError as error:
        log.warning("no eager baseline of %s: %s", key, error)
        return []
    return [_baseline(key, "torch", {**quality, "cost": _cost_facts(cost)})]


def _baseline(key: ModelKey, format_name: str, measured: MeasurementFacts) -> BaselineFacts:
    return {
        "name": f"{key}.{format_name}",
        "model": key,
        "format": format_name,
        "measurement": measured,
    }


def _measurement_facts(measured: Measurement) -> MeasurementFacts:
    return {
        "accuracy": measured.accuracy,
        "macro_f1": measured.macro_f1,
        "parameters": measured.parameters,
        "cost": _cost_facts(measured.cost),
    }


def _cost_facts(cost: Cost) -> CostFacts:
    return {
        "bytes": cost.bytes,
        "gzip_bytes": cost.gzip_bytes,
        "latency_ms": {
            batch: {"p50": one.p50, "p95": one.p95, "min": one.min}
            for batch, one in cost.latency_ms.items()
        },
        "load_ms": cost.load_ms,
        "peak_memory_bytes": cost.peak_memory_bytes,
        "runtime": cost.runtime,
        "joules": cost.joules,
    }
