"""From the federated student to the folder that ships: compress, measure, bundle."""

import dataclasses
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedlite.compress.bundle import write_bundle
from fedlite.compress.check import can_run, compare, too_noisy
from fedlite.compress.formats import export_file, suffix_of
from fedlite.compress.measure import measure_cost, measure_eager, measure_file
from fedlite.compress.shrink import Shrinker, training_steps
from fedlite.compress.stage import FEDERATED, PRUNED, QUANTIZED, compress_student
from fedlite.config import CompressConfig, Config
from fedlite.data import PublicData, Splits
from fedlite.errors import FedliteError
from fedlite.files import replace_folder, write_whole
from fedlite.models.build import count_parameters
from fedlite.privacy import derive_seed
from fedlite.records import Artefact
from fedlite.run_directory import RunDirectory
from fedlite.search.compression import search_compression
from fedlite.search.record import write_search
from fedlite.search.students import search_student
from fedlite.tracking.markdown import student_search_markdown
from fedlite.tracking.privacy_statement import privacy_statement
from fedlite.tracking.progress import Progress
from fedlite.tracking.table import comparison_markdown

log = logging.getLogger(__name__)

# What a search may choose and the report tells.
CHOSEN = ("norms", "ratio", "criterion", "quantization", "bits", "recovery_steps", "sparsity")
FULL_MODELS = ("teacher", "public_student", FEDERATED)
EAGER = ("teacher", FEDERATED)  # also measured in eager torch
COMPRESSED = (PRUNED, QUANTIZED)
MODELS = "models"
ENOUGH = 100  # examples to judge by


@dataclass(frozen=True)
class Delivery:
    """The last stages of one run. ``load`` gives a stored full-width model in eval mode."""

    config: Config
    run: RunDirectory
    splits: Splits
    progress: Progress
    load: Callable[[str], nn.Module]

    @property
    def models(self) -> Path:
        """Where exported files lie."""
        return self.run.file(MODELS)

    @property
    def judges(self) -> PublicData:
        """Public examples that choose and judge files: those kept from training, if they are many.

        A few dozen tell too little; then all public examples judge.
        """
        kept, trained = self.splits.public_validation, self.splits.public
        if len(kept) >= ENOUGH:
            return kept
        return PublicData(
            torch.cat([trained.inputs, kept.inputs]), torch.cat([trained.labels, kept.labels])
        )

    def compress(self) -> dict[str, Any]:
        """Search the options if asked to, then make and judge the files; public data alone."""
        config = self.config.compress
        shrinker = Shrinker(
            self.load(FEDERATED),
            self.load("teacher"),
            self.splits.task,
            self.splits.public,
            self.config.dataset.augment,
            derive_seed(self.config.seed, "compress"),
        )
        facts: dict[str, Any] = {}
        if config.search.enabled:
            config, facts["search"] = self._search(shrinker)
        unfinished = self.run.file(f".{MODELS}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        with self.progress.stage("compress", total=training_steps(config)) as bar:
            shrinker.on_step = lambda step: bar.advance()
            made = compress_student(shrinker, self.judges, config, unfinished)
        self._replace_models(unfinished)
        facts["options"] = {name: getattr(config, name) for name in CHOSEN}
        facts["judges"] = len(self.judges)
        facts |= dataclasses.asdict(made)
        for artefact in facts["artefacts"]:
            artefact["file"] = artefact["file"] and f"{MODELS}/{artefact['file']}"
        return facts

    def evaluate(self) -> dict[str, Any]:
        """Measure every model on the test set, in the runtime that serves it."""
        facts = self.run.facts("compress")
        artefacts = [Artefact(**one) for one in facts["artefacts"]]
        full = {name: self.load(name) for name in FULL_MODELS}
        parameters = {name: count_parameters(model) for name, model in full.items()}
        parameters |= dict.fromkeys(COMPRESSED, facts["parameters_after"])
        others = [name for name in self.config.compress.formats if name != "onnx"]
        models: dict[str, Any] = {}
        measured: dict[str, Any] = {}
        baselines: list[dict[str, Any]] = []
        total = len(full) + len(others) + len(EAGER) + 1 + len(artefacts)
        with self.progress.stage("measure", total=total) as bar:
            for name, model in full.items():
                models[name] = self._export_and_measure(model, name, "onnx")
                bar.advance(accuracy=models[name]["accuracy"])
            for format_name in others:
                baselines += self._baseline(full["teacher"], format_name)
                bar.advance()
            for name in EAGER:
                baselines += self._eager(full[name], name, models[name])
                bar.advance()
            if facts["folded_norms"]:
                path = self.models / "folded_student.onnx"
                models["folded_student"] = self._measure(path, "onnx", facts["parameters_folded"])
            bar.advance()
            for artefact in artefacts:
                python = self.config.compress.converters.get(artefact.format)
                if artefact.file and can_run(self.run.file(artefact.file), python):
                    measured[artefact.name] = self._measure(
                        self.run.file(artefact.file), artefact.format, parameters[artefact.model]
                    )
                    if artefact.format == "onnx" and artefact.model in COMPRESSED:
                        models[artefact.model] = measured[artefact.name]
                bar.advance()
        return {"models": models, "artefacts": measured, "baselines": baselines}

    def bundle(self, report: dict[str, Any]) -> None:
        """Write the deployable folder from the files that may ship."""
        facts = self.run.facts("compress")
        by_name = {one["name"]: one for one in facts["artefacts"]}
        files, manifest = {}, []
        for format_name, name in facts["shipped"].items():
            file = f"student{suffix_of(format_name)}"
            files[file] = self.run.file(by_name[name]["file"])
            manifest.append({"file": file, **_manifest_entry(by_name[name])})
        key = self.config.compress.signing_key
        write_bundle(
            self.run.file("deploy"),
            files,
            manifest,
            self.splits.task,
            report,
            privacy_statement=privacy_statement(report["privacy"]),
            metrics_table=comparison_markdown(report),
            signing_key=Path(key) if key else None,
        )

    def _replace_models(self, made: Path) -> None:
        """Put new files in the place of those of an earlier compression, which count no longer."""
        self.run.forget("compress", "evaluate", "report")
        replace_folder(made, self.models)

    def _search(self, shrinker: Shrinker) -> tuple[CompressConfig, dict[str, Any]]:
        """The options that a search chose, and its section of the report."""
        config, task = self.config.compress, self.splits.task
        validation, directory = self.judges, self.run.file("search")
        format_name = config.formats[0]
        python = config.converters.get(format_name)

        def make(trial: CompressConfig, folder: Path) -> Path:
            path = folder / f"student{suffix_of(format_name)}"
            shrinker.export(format_name, path, trial)
            found = compare(path, shrinker.quantizable(trial), validation, python)
            if reason := too_noisy(found, trial.min_snr_db):
                raise FedliteError(reason)
            return path

        with self.progress.stage("search", total=config.search.trials) as bar:
            found = search_compression(
                make,
                shrinker.student,
                task,
                validation,
                config,
                directory,
                derive_seed(self.config.seed, "search"),
                measure=partial(measure_file, python=python),
                on_trial=lambda trial: bar.advance(),
            )
        chosen = dataclasses.replace(found.config, search=config.search, target=config.target)
        return chosen, write_search(found.search, directory, self.run.path)

    def _baseline(self, teacher: nn.Module, format_name: str) -> list[dict[str, Any]]:
        """The teacher's fp32 in another format, by which that format's files are judged.

        Empty where the teacher cannot be converted or this machine cannot run it.
        """
        path = self.models / f"teacher{suffix_of(format_name)}"
        if not can_run(path, self.config.compress.converters.get(format_name)):
            return []
        try:
            measurement = self._export_and_measure(teacher, "teacher", format_name)
        except FedliteError as error:
            log.warning("no teacher in %s: %s", format_name, error)
            return []
        entry = {"name": f"teacher.{format_name}", "model": "teacher", "format": format_name}
        return [entry | {"measurement": measurement}]

    def _export_and_measure(self, model: nn.Module, name: str, format_name: str) -> dict[str, Any]:
        """Measures of ``model`` as an fp32 file of its own in ``models/``."""
        config, path = self.config.compress, self.models / f"{name}{suffix_of(format_name)}"
        export_file(format_name, model, self.splits.task, path, config, None, quantized=False)
        return self._measure(path, format_name, count_parameters(model))

    def _measure(self, path: Path, format_name: str, parameters: int) -> dict[str, Any]:
        measurement = measure_file(
            path,
            self.splits.test,
            self.splits.task.num_classes,
            parameters,
            self.config.compress.measure,
            python=self.config.compress.converters.get(format_name),
        )
        return dataclasses.asdict(measurement)

    def _eager(self, model: nn.Module, name: str, quality: dict[str, Any]) -> list[dict[str, Any]]:
        """Eager torch as a baseline; empty where the model cannot go to another process."""
        try:
            cost = measure_eager(model, self.config.compress.measure, self.splits.task.input_shape)
        except FedliteError as error:
            log.warning("no eager baseline of %s: %s", name, error)
            return []
        measurement = quality | {"cost": dataclasses.asdict(cost)}
        entry = {"name": f"{name}.torch", "model": name, "format": "torch"}
        return [entry | {"measurement": measurement}]


def run_student_search(
    config: Config, run: RunDirectory, splits: Splits, teacher: nn.Module, progress: Progress
) -> dict[str, Any]:
    """Search a student's architecture; writes ``search_student/`` and gives the report's facts."""
    directory = run.file("search_student")
    python = config.compress.converters.get(config.compress.formats[0])
    with progress.stage("search-student", total=config.search_student.trials) as bar:
        found = search_student(
            teacher,
            splits.task,
            splits.public,
            splits.public_validation,
            config.search_student,
            config.compress,
            config.distill,
            config.dataset.augment,
            directory,
            derive_seed(config.seed, "search-student"),
            default=config.student,
            measure=partial(measure_cost, python=python),
            on_trial=lambda trial: bar.advance(),
        )
    facts = write_search(found.search, directory, run.path)
    write_whole(directory / "report.md", student_search_markdown(facts))
    return facts | {"student_file": str(found.path.relative_to(run.path))}


def _manifest_entry(artefact: dict[str, Any]) -> dict[str, Any]:
    return {key: artefact[key] for key in ("name", "model", "format", "precision")}


def compress_options(config: Config, run: RunDirectory) -> CompressConfig:
    """The options that make the run's ONNX file that ships, or would if ONNX did.

    They differ from those given where a search chose them, and where files were refused.
    """
    facts = run.facts("compress")
    options = dataclasses.replace(config.compress, **facts.get("options", {}))
    allowed = {one["model"] for one in facts["artefacts"] if _of_onnx(one) and not one["refused"]}
    if QUANTIZED not in allowed:
        options = dataclasses.replace(options, quantization="none", bits=8)
    if not allowed & set(COMPRESSED):
        options = dataclasses.replace(
            options, norms="keep", ratio=0.0, layer_ratios={}, sparsity=0.0
        )
    return options


def _of_onnx(artefact: dict[str, Any]) -> bool:
    return bool(artefact["format"] == "onnx")
