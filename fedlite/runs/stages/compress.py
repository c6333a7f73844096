"""Compression: from the student that is kept to judged files; public data alone."""

import dataclasses
import logging
import shutil
from functools import partial
from pathlib import Path

import torch

from fedlite.base.errors import FedliteError
from fedlite.base.files import replace_folder
from fedlite.base.records import Artefact, ModelKey
from fedlite.compress.compare import compare, too_noisy
from fedlite.compress.format import suffix_of
from fedlite.compress.idle import without_effect
from fedlite.compress.judge import FEDERATED, PRUNED, QUANTIZED, compress_student
from fedlite.compress.measure import measure_file
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.shrinker import Shrinker, training_steps
from fedlite.data.types import PublicData
from fedlite.distill.keep import KeptStudent, keep_student
from fedlite.privacy.randomness import derive_seed
from fedlite.report.schema import ArtefactEntry, SearchSection
from fedlite.runs.config import Config
from fedlite.runs.directory import RunDirectory
from fedlite.runs.facts import (
    CompressFacts,
    CompressionChoice,
    KeptFacts,
    Searched,
    paired_facts,
    scores_facts,
)
from fedlite.runs.pipeline import Pipeline
from fedlite.search.archive import write_search
from fedlite.search.compression import search_compression

log = logging.getLogger(__name__)

COMPRESSED: tuple[ModelKey, ...] = (PRUNED, QUANTIZED)
MODELS_FOLDER = "models"
ENOUGH = 100  # examples to judge by


def run(pipeline: Pipeline) -> CompressFacts:
    """Choose the student, search the options if asked to, make and judge files in ``models/``."""
    config, splits = pipeline.config.compress, pipeline.splits
    kept = _keep(pipeline)
    shrinker = Shrinker(
        pipeline.load(kept.student),
        pipeline.load("teacher"),
        splits.task,
        splits.public,
        pipeline.config.dataset.augment,
        derive_seed(pipeline.config.seed, "compress"),
        device=pipeline.device,
    )
    judges = judging_examples(splits.public, splits.public_validation)
    searched: Searched = {}
    if config.search.enabled:
        config, section = _search(pipeline, shrinker, judges)
        searched = {"search": section}
    unfinished = pipeline.run.file(f".{MODELS_FOLDER}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with pipeline.progress.stage("compress", total=training_steps(config)) as bar:
        shrinker.on_step = lambda step: bar.advance()
        made = compress_student(shrinker, judges, config, unfinished, kept.student)
    scores: KeptFacts = {}
    if kept.scores is not None:
        scores = {"validation_scores": scores_facts(kept.scores)}
    for line in without_effect(config, made.folded_norms):
        pipeline.warn(line)
    # New files replace those of an earlier compression, which count no longer.
    pipeline.run.forget("compress", "evaluate", "report")
    replace_folder(unfinished, pipeline.run.file(MODELS_FOLDER))
    return {
        **searched,
        "kept": kept.student,
        "validation": paired_facts(kept.validation) if kept.validation else None,
        **scores,
        "options": _choice(config),
        "judges": len(judges),
        "artefacts": [_entry(one) for one in made.artefacts],
        "shipped": made.shipped,
        "folded_norms": made.folded_norms,
        "public_accuracy": made.public_accuracy,
        "parameters_before": made.parameters_before,
        "parameters_folded": made.parameters_folded,
        "parameters_after": made.parameters_after,
        "nonzero_weights": made.nonzero_weights,
        "max_difference": made.max_difference,
    }


def _keep(pipeline: Pipeline) -> KeptStudent:
    """The student that goes on, chosen on the public examples that trained no student."""
    return keep_student(
        pipeline.load("public_student"),
        pipeline.load(FEDERATED),
        pipeline.splits.public_validation,
        pipeline.config.federation.keep,
        pipeline.config.dataset.metric,
    )


def _choice(config: CompressOptions) -> CompressionChoice:
    return {
        "norms": config.norms,
        "ratio": config.ratio,
        "criterion": config.criterion,
        "quantization": config.quantization,
        "bits": config.bits,
        "recovery_steps": config.recovery_steps,
        "sparsity": config.sparsity,
    }


def _entry(artefact: Artefact) -> ArtefactEntry:
    """An artefact as an entry of the report; its file relative to the run directory."""
    return {
        "name": artefact.name,
        "model": artefact.model,
        "format": artefact.format,
        "precision": artefact.precision,
        "file": artefact.file and f"{MODELS_FOLDER}/{artefact.file}",
        "snr_db": artefact.snr_db,
        "agreement": artefact.agreement,
        "public_accuracy": artefact.public_accuracy,
        "accuracy_drop": artefact.accuracy_drop,
        "refused": artefact.refused,
        "float_ops": artefact.float_ops,
    }


def judging_examples(trained: PublicData, kept: PublicData) -> PublicData:
    """Public examples that choose and judge files: those ``kept`` from training, if they are many.

    A few dozen tell too little; then all public examples judge.
    """
    if len(kept) >= ENOUGH:
        return kept
    return PublicData(
        torch.cat([trained.inputs, kept.inputs]), torch.cat([trained.labels, kept.labels])
    )


def _search(
    pipeline: Pipeline, shrinker: Shrinker, judges: PublicData
) -> tuple[CompressOptions, SearchSection]:
    """The options that a search chose, and its section of the report."""
    config, directory = pipeline.config.compress, pipeline.run.file("search")
    format_name = config.formats[0]
    python = config.converters.get(format_name)

    def make(trial: CompressOptions, folder: Path) -> Path:
        path = folder / f"student{suffix_of(format_name)}"
        shrinker.export(format_name, path, trial)
        found = compare(path, shrinker.quantizable(trial), judges, python)
        if reason := too_noisy(found, trial.min_snr_db):
            raise FedliteError(reason)
        return path

    with pipeline.progress.stage("search", total=config.search.trials) as bar:
        found = search_compression(
            make,
            shrinker.student,
            pipeline.splits.task,
            judges,
            config,
            directory,
            derive_seed(pipeline.config.seed, "search"),
            measure=partial(measure_file, python=python),
            on_trial=lambda trial: bar.advance(),
        )
    chosen = dataclasses.replace(found.config, search=config.search, target=config.target)
    return chosen, write_search(found.search, directory, pipeline.run.path)


def shipped_options(config: Config, run: RunDirectory) -> CompressOptions:
    """The options that make the run's ONNX file that ships, or would if ONNX did.

    They differ from those given where a search chose them, and where files were refused.
    """
    facts = run.facts["compress"]
    options = dataclasses.replace(config.compress, **facts["options"])
    allowed = {
        one["model"] for one in facts["artefacts"] if one["format"] == "onnx" and not one["refused"]
    }
    if QUANTIZED not in allowed:
        options = dataclasses.replace(options, quantization="none", bits=8)
    if not allowed & set(COMPRESSED):
        options = dataclasses.replace(
            options, norms="keep", ratio=0.0, layer_ratios={}, sparsity=0.0
        )
    return options
