"""Evaluation: every model on the test set and its costs, in the runtime that serves it."""

import dataclasses
import logging
from pathlib import Path
from typing import Any, TypedDict

from torch import nn

from fedlite.base.errors import FedliteError
from fedlite.base.records import Artefact
from fedlite.compress.compare import runs_in
from fedlite.compress.exporting import export_file
from fedlite.compress.format import suffix_of
from fedlite.compress.judge import FEDERATED
from fedlite.compress.measure import measure_eager, measure_file
from fedlite.models.build import count_parameters
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.stages.compress import COMPRESSED, MODELS

log = logging.getLogger(__name__)

FULL_MODELS = ("teacher", "public_student", FEDERATED)
EAGER = ("teacher", FEDERATED)  # also measured in eager torch


class Facts(TypedDict):
    """Measurements: of models by key, of artefacts by name, and of what they are compared with."""

    models: dict[str, Any]
    artefacts: dict[str, Any]
    baselines: list[dict[str, Any]]


def run(pipeline: Pipeline) -> Facts:
    """Measure all that the compression made, and the models before it."""
    facts, config = pipeline.run.facts("compress"), pipeline.config.compress
    artefacts = [Artefact(**one) for one in facts["artefacts"]]
    full = {name: pipeline.load(name) for name in FULL_MODELS}
    parameters = {name: count_parameters(model) for name, model in full.items()}
    parameters |= dict.fromkeys(COMPRESSED, facts["parameters_after"])
    others = [name for name in config.formats if name != "onnx"]
    found: Facts = {"models": {}, "artefacts": {}, "baselines": []}
    total = len(full) + len(others) + len(EAGER) + 1 + len(artefacts)
    with pipeline.progress.stage("measure", total=total) as bar:
        for name, model in full.items():
            found["models"][name] = _export_and_measure(pipeline, model, name, "onnx")
            bar.advance(accuracy=found["models"][name]["accuracy"])
        for format_name in others:
            found["baselines"] += _teacher_baseline(pipeline, full["teacher"], format_name)
            bar.advance()
        for name in EAGER:
            found["baselines"] += _eager(pipeline, full[name], name, found["models"][name])
            bar.advance()
        if facts["folded_norms"]:
            path = pipeline.run.file(MODELS) / "folded_student.onnx"
            measured = _measure(pipeline, path, "onnx", facts["parameters_folded"])
            found["models"]["folded_student"] = measured
        bar.advance()
        for artefact in artefacts:
            python = config.converters.get(artefact.format)
            if artefact.file and runs_in(pipeline.run.file(artefact.file), python):
                path = pipeline.run.file(artefact.file)
                measured = _measure(pipeline, path, artefact.format, parameters[artefact.model])
                found["artefacts"][artefact.name] = measured
                if artefact.format == "onnx" and artefact.model in COMPRESSED:
                    found["models"][artefact.model] = measured
            bar.advance()
    return found


def _teacher_baseline(
    pipeline: Pipeline, teacher: nn.Module, format_name: str
) -> list[dict[str, Any]]:
    """The teacher's fp32 in another format, by which that format's files are judged.

    Empty where the teacher cannot be converted or this machine cannot run it.
    """
    path = pipeline.run.file(MODELS) / f"teacher{suffix_of(format_name)}"
    if not runs_in(path, pipeline.config.compress.converters.get(format_name)):
        return []
    try:
        measurement = _export_and_measure(pipeline, teacher, "teacher", format_name)
    except FedliteError as error:
        log.warning("no teacher in %s: %s", format_name, error)
        return []
    entry = {"name": f"teacher.{format_name}", "model": "teacher", "format": format_name}
    return [entry | {"measurement": measurement}]


def _export_and_measure(
    pipeline: Pipeline, model: nn.Module, name: str, format_name: str
) -> dict[str, Any]:
    """Measures of ``model`` as an fp32 file of its own in ``models/``."""
    config = pipeline.config.compress
    path = pipeline.run.file(MODELS) / f"{name}{suffix_of(format_name)}"
    export_file(format_name, model, pipeline.splits.task, path, config, None, quantized=False)
    return _measure(pipeline, path, format_name, count_parameters(model))


def _measure(pipeline: Pipeline, path: Path, format_name: str, parameters: int) -> dict[str, Any]:
    config, splits = pipeline.config.compress, pipeline.splits
    measurement = measure_file(
        path,
        splits.test,
        splits.task.num_classes,
        parameters,
        config.measure,
        python=config.converters.get(format_name),
    )
    return dataclasses.asdict(measurement)


def _eager(
    pipeline: Pipeline, model: nn.Module, name: str, quality: dict[str, Any]
) -> list[dict[str, Any]]:
    """Eager torch as a baseline; empty where the model cannot go to another process."""
    measure, task = pipeline.config.compress.measure, pipeline.splits.task
    try:
        cost = measure_eager(model, measure, task.input_shape)
    except FedliteError as error:
        log.warning("no eager baseline of %s: %s", name, error)
        return []
    measurement = quality | {"cost": dataclasses.asdict(cost)}
    entry = {"name": f"{name}.torch", "model": name, "format": "torch"}
    return [entry | {"measurement": measurement}]
