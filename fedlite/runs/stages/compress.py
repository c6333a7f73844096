"""Compression: from the federated student to judged files; public data alone."""

import dataclasses
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fedlite.base.errors import FedliteError
from fedlite.base.files import replace_folder
from fedlite.base.options import deciding
from fedlite.compress.compare import compare, too_noisy
from fedlite.compress.format import suffix_of
from fedlite.compress.judge import FEDERATED, PRUNED, QUANTIZED, compress_student
from fedlite.compress.measure import measure_file
from fedlite.compress.options import CompressOptions
from fedlite.compress.shrink.shrinker import Shrinker, training_steps
from fedlite.data.types import PublicData
from fedlite.privacy.randomness import derive_seed
from fedlite.runs.config import Config
from fedlite.runs.directory import RunDirectory
from fedlite.runs.pipeline import Pipeline
from fedlite.search.archive import write_search
from fedlite.search.compression import search_compression

# What a search may choose and the report tells.
CHOSEN = ("norms", "ratio", "criterion", "quantization", "bits", "recovery_steps", "sparsity")
COMPRESSED = (PRUNED, QUANTIZED)
MODELS = "models"
ENOUGH = 100  # examples to judge by


def decided_by(config: Config) -> list[Any]:
    """The options of compression; those of a search and of its measure only where it searches."""
    options = deciding(config.compress)
    measure = options.pop("measure")
    if config.compress.search.enabled:
        options["measure"] = measure
    else:
        del options["search"], options["target"]
    return [options]


def run(pipeline: Pipeline) -> dict[str, Any]:
    """Search the options if asked to, then make and judge the files in ``models/``."""
    config, splits = pipeline.config.compress, pipeline.splits
    shrinker = Shrinker(
        pipeline.load(FEDERATED),
        pipeline.load("teacher"),
        splits.task,
        splits.public,
        pipeline.config.dataset.augment,
        derive_seed(pipeline.config.seed, "compress"),
    )
    facts: dict[str, Any] = {}
    judges = judging_examples(splits.public, splits.public_validation)
    if config.search.enabled:
        config, facts["search"] = _search(pipeline, shrinker, judges)
    unfinished = pipeline.run.file(f".{MODELS}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with pipeline.progress.stage("compress", total=training_steps(config)) as bar:
        shrinker.on_step = lambda step: bar.advance()
        made = compress_student(shrinker, judges, config, unfinished)
    # New files replace those of an earlier compression, which count no longer.
    pipeline.run.forget("compress", "evaluate", "report")
    replace_folder(unfinished, pipeline.run.file(MODELS))
    facts["options"] = {name: getattr(config, name) for name in CHOSEN}
    facts["judges"] = len(judges)
    facts |= dataclasses.asdict(made)
    for artefact in facts["artefacts"]:
        artefact["file"] = artefact["file"] and f"{MODELS}/{artefact['file']}"
    return facts


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
) -> tuple[CompressOptions, dict[str, Any]]:
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
    facts = run.facts("compress")
    options = dataclasses.replace(config.compress, **facts.get("options", {}))
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
