"""What a run refuses before anything is trained or charged."""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import read_json
from fedlite.base.options import options_of, parse, shown, value_at
from fedlite.data.types import Task
from fedlite.federation.class_options import KEY
from fedlite.federation.simulation import check_policy
from fedlite.federation.transport.engines import check_engine
from fedlite.federation.workbench import open_workbench
from fedlite.models.pretrained_files import MODULE as PRETRAINED
from fedlite.models.trial import check_training
from fedlite.privacy.division import DIVISION_FILE, read_division
from fedlite.runs.config import Config
from fedlite.runs.directory import CONFIG_FILE, RunDirectory
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.stages.federate import client_options
from fedlite.runs.stages.table import fingerprints
from fedlite.serve.signature import read_signing_key

OF_VECTORS = ("fedlite.models.mlp.MLP",)
OF_TEXTS = ("fedlite.models.text.", PRETRAINED)
EXPORTS = "fedlite."  # the package's own students are known to export: their tests do it

log = logging.getLogger(__name__)


def check_delivery(config: Config, stages: Sequence[str]) -> None:
    """Refuse what would fail once the files are made: a converter, a key, a search without runtime.

    Args:
        stages: that are about to run.

    Raises:
        FedliteError: names the option and what would be right.
    """
    compress = config.compress
    searches = "search_student" in stages or (compress.search.enabled and "compress" in stages)
    if searches or "compress" in stages:
        from fedlite.compress.exporting import require_converters  # what exports loads slowly

        require_converters(compress)
    if compress.signing_key and "report" in stages:
        read_signing_key(Path(compress.signing_key))
    if searches and compress.formats[0] == "coreml" and sys.platform != "darwin":
        raise UsageError(
            "compress.formats=[coreml,...]: a search measures files of the first format, and Core"
            " ML runs on macOS only; put another format first"
        )


def check_run(pipeline: Pipeline, stages: Sequence[str]) -> None:
    """Refuse what would fail later, and what would mix two runs in one directory.

    Args:
        stages: that are about to run.

    Raises:
        UsageError: names the option and what would be right.
    """
    config, run, splits = pipeline.config, pipeline.run, pipeline.splits
    check_networks(config, splits.task)
    privacy, plans = config.privacy, pipeline.plans
    check_engine(config.engine)
    started = run.facts.get("plan")
    if started and not run.done("plan", pipeline.marks["plan"]):
        raise UsageError(other_options(run, config))
    if started and started["ledger_dir"] != privacy.ledger_dir:
        raise UsageError(
            f"privacy.ledger_dir={privacy.ledger_dir}: this run charges the ledgers in"
            f" {started['ledger_dir'] or run.file('ledgers')}; they cannot be exchanged"
        )
    given, example = privacy.expected_examples, plans.example
    if started and example and given not in (None, example.expected_examples):
        raise UsageError(
            f"privacy.expected_examples={given}: this run was planned with"
            f" {example.expected_examples}; choose another directory"
        )
    clip, client = privacy.client.clip, plans.client
    if started and client and clip not in (None, client.clip):
        raise UsageError(
            f"privacy.client.clip={clip:g}: this run was planned with {client.clip:g}; choose"
            " another directory"
        )
    check_division(pipeline)
    if not run.done("federate", pipeline.marks["federate"]):
        # Clients in this process find the bench open, and its checks done.
        options = client_options(config, splits.task, pipeline.class_weights)
        open_workbench(options.to_json(), run.file("nodes"), config.device)
        _check_trained(pipeline)
        limit = _limit(config)
        if "compress" in stages or limit is not None:
            from fedlite.compress.probe import check_cut, check_export, check_loads  # as above

            cut = check_cut(pipeline.build(config.student), splits.task, config.compress)
            if limit is not None:
                _check_size(pipeline, cut, limit)
            if "compress" in stages and not config.student.module.startswith(EXPORTS):
                check_loads(cut, config.student, splits.task)
                check_export(cut, splits.task, config.compress)
    if not privacy.private:
        return
    largest = max(splits.client_sizes())
    if privacy.example_level and privacy.delta * largest >= 1:
        raise UsageError(
            f"privacy.delta={privacy.delta:g}: must be below 1/n of every client;"
            f" the largest has {largest} examples (1/n = {1 / largest:.2g})"
        )
    check_policy(privacy, config.dataset.name, plans.example, splits.num_clients)
    if privacy.randomness == "deterministic":
        log.warning("deterministic randomness: this run is NOT PRIVATE")


def _limit(config: Config) -> int | None:
    """Bytes that the file of a class's students may have; None where nobody said, or where a search
    will say what ships."""
    name = config.federation.class_name
    if not name or config.compress.search.enabled:
        return None
    return config.federation.classes[name].max_bytes


def _check_size(pipeline: Pipeline, cut: nn.Module, limit: int) -> None:
    """Refuse a class of students whose file will be larger than its limit."""
    from fedlite.compress.probe import shipped_bytes  # what exports loads slowly

    config, splits = pipeline.config, pipeline.splits
    size = shipped_bytes(cut, splits.task, config.compress, splits.public)
    if size > limit:
        where = f"{KEY}.{config.federation.class_name}"
        raise UsageError(
            f"{where}.max_bytes={limit}: student={config.student.name} takes {size} bytes as it"
            f" would ship; give {where} a smaller student (student, kwargs), or compress more"
            " (compress.ratio, compress.bits); nothing was trained or charged"
        )


def _check_trained(pipeline: Pipeline) -> None:
    """Refuse networks that this process could not train on public data. Private training has asked
    more of the student already."""
    config, task = pipeline.config, pipeline.splits.task
    inputs = task.random(4, torch.Generator().manual_seed(0))
    if config.teacher.checkpoint is None:
        teacher = pipeline.build(config.teacher)
        check_training(teacher, inputs, task.num_classes, "teacher")
    if not config.privacy.private:
        student = pipeline.build(config.student)
        check_training(student, inputs, task.num_classes, "student")


def check_networks(config: Config, task: Task) -> None:
    """Refuse networks of the package that are for images or series where inputs are vectors or
    texts.

    Raises:
        UsageError: names both options at once, and what to use.
    """
    if len(task.input_shape) != 1:
        return
    fitting: tuple[str, ...] = OF_VECTORS
    choice, inputs = "mlp", f"vectors of {task.input_shape[0]} features"
    if task.vocabulary is not None:
        fitting, choice, inputs = OF_TEXTS, "text_cnn", "texts"
    networks = {"student": config.student, "teacher": config.teacher}
    wrong = {
        key: one.name
        for key, one in networks.items()
        if one.module.startswith(EXPORTS) and not one.module.startswith(fitting)
    }
    if wrong:
        found = " and ".join(f"{key}={name}" for key, name in wrong.items())
        remedy = " ".join(f"{key}={choice}" for key in wrong)
        raise UsageError(
            f"{found}: not for inputs of {task.name}, which are {inputs}; use {remedy}"
        )


def other_options(run: RunDirectory, config: Config) -> str:
    """Why a started run does not go on with ``config``: each option of its federation that is
    another, as it was and as it is given now."""
    found = "; ".join(
        f"{key}={shown(old)} then, {shown(new)} now" for key, old, new in changes(run, config)
    )
    return (
        f"run.dir={run.path}: its federation was started with other options"
        f" ({found or 'for data, teacher, student, distillation, privacy or federation'}); leave"
        " them as they were, or choose another directory"
    )


def changes(run: RunDirectory, config: Config) -> Iterator[tuple[str, Any, Any]]:
    """Key, old and new value of the options that keep a started run from going on."""
    before = parse(Config, read_json(run.file(CONFIG_FILE))).to_plain()
    after, mark = config.to_plain(), fingerprints(config)["plan"]
    for option in options_of(Config):
        old, new = (value_at(plain, option.key) for plain in (before, after))
        if old == new or fingerprints(_with(config, option.key, old))["plan"] == mark:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            for name in sorted(old.keys() | new.keys()):
                if old.get(name) != new.get(name):
                    yield f"{option.key}.{name}", old.get(name), new.get(name)
        else:
            yield option.key, old, new


def _with(options: Any, key: str, value: Any) -> Any:
    """Options with one other value, unchecked."""
    name, _, rest = key.partition(".")
    return replace(options, **{name: _with(getattr(options, name), rest, value) if rest else value})


def check_division(pipeline: Pipeline) -> None:
    """Refuse to go on with a started run whose clients, or whose ledgers, are no longer the same.

    Raises:
        UsageError: its clients hold other examples than those that the run has charged.
        FedliteError: its ledgers are bound to others, or to none.
    """
    run, directory = pipeline.run, pipeline.ledger_dir
    plan = run.facts.get("plan")
    if plan is None or not (recorded := plan.get("division")):
        return
    if pipeline.division.sha256 != recorded:
        raise UsageError(
            f"run.dir={run.path}: its data set holds other examples than when its federation"
            " began, so its clients would spend for others; restore its files, or choose another"
            " directory"
        )
    bound = read_division(directory)
    if bound is None or bound.sha256 != recorded:
        raise FedliteError(
            f"{directory}: are not the ledgers of this run, or {DIVISION_FILE} is gone; restore"
            " the directory, nothing is trained or reported without it"
        )
