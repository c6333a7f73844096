"""The report dictionary (docs/report.md), assembled from the run directory and the ledgers."""

import math
import os
import platform
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from shlex import join
from typing import get_args

from fedlite.audit.attacks import AUDITS_FILE
from fedlite.base.compute import hardware_name
from fedlite.base.files import read_json
from fedlite.base.intervals import PairedComparison
from fedlite.base.paired_scores import PairedScores
from fedlite.federation.plans import Plans
from fedlite.privacy.groups import GROUP_SIZES, group_epsilon, largest_histories
from fedlite.privacy.ledger import segments
from fedlite.report.audit_sections import AuditsSection
from fedlite.report.fleet import fleet_section
from fedlite.report.judged import judged_pair, judged_scores, majority_of
from fedlite.report.quality import quality_entry
from fedlite.report.schema import (
    ArtefactEntry,
    CompressionSection,
    FederationSection,
    FileMeasures,
    ModelEntry,
    PrivacyOfSweep,
    PrivacySection,
    Report,
    TimedPart,
    TrafficPart,
)
from fedlite.report.sections import JudgedPair, JudgementSection, MajoritySection
from fedlite.runs.cascade import cascade_section
from fedlite.runs.changed import changed_options
from fedlite.runs.config import Config
from fedlite.runs.derived import derived_constants
from fedlite.runs.directory import SWEEP_FILE, RunDirectory, load_overrides
from fedlite.runs.facts import (
    MODEL_STAGES,
    BaselineFacts,
    CompressFacts,
    EvaluateFacts,
    FederateFacts,
    MeasurementFacts,
    PairedFacts,
)
from fedlite.runs.fleet import device_entries
from fedlite.runs.history import last_epsilons, rounds_of
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.spending import Spent, privacy_section, read_spending

TRAFFIC: tuple[TrafficPart, ...] = get_args(TrafficPart)
TIMED: tuple[TimedPart, ...] = (
    "teacher",
    "warm_start",
    "plan",
    "federate",
    "compress",
    "evaluate",
)


def assemble_report(pipeline: Pipeline) -> Report:
    """All sections of ``report.json``; epsilons come from the ledgers, not from the plan."""
    config, run, splits, plans = pipeline.config, pipeline.run, pipeline.splits, pipeline.plans
    federated, compressed, measured = (
        run.facts["federate"],
        run.facts["compress"],
        run.facts["evaluate"],
    )
    history = rounds_of(federated)
    spent = read_spending(
        config,
        plans,
        splits.all_numbers,
        pipeline.ledger_dir,
        run.run_id,
        history,
        last_epsilons(federated),
    )
    audits: AuditsSection = {}
    if run.file(AUDITS_FILE).exists():
        audits = read_json(run.file(AUDITS_FILE))
    seconds = {name: run.seconds(name) for name in TIMED}
    report: Report = {
        "models": {key: _model(facts) for key, facts in measured["models"].items()},
        "artefacts": [
            *map(_baseline, measured["baselines"]),
            *(
                _measured(one, measured["artefacts"].get(one["name"]))
                for one in compressed["artefacts"]
            ),
        ],
        "privacy": {
            **with_groups(privacy_section(config, splits, plans, spent, audits), plans, spent),
            "derived_constants": derived_constants(config),
            **_sweep(run),
        },
        "dataset": {
            "name": config.dataset.name,
            "classes": splits.task.num_classes,
            "public": len(splits.public) + len(splits.public_validation),
            "private": sum(splits.client_sizes()),
            "test": len(splits.test),
            "evaluated_on": config.dataset.evaluate_on,
            "partition": config.partition.name,
        },
        "federation": _federation(config, splits.num_clients, federated),
        "judgement": _judgement(config, compressed, measured, _majority(pipeline)),
        "compression": _compression(compressed, measured),
        "search": compressed.get("search"),
        "traffic": {part: sum(one[part] for one in history) for part in TRAFFIC},
        "timing": {**seconds, "total": sum(seconds.values())},
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "device": f"{pipeline.device.type}: {hardware_name(pipeline.device)}",
            "fedlite": _version("fedlite"),
            "torch": _version("torch"),
            "flwr": _version("flwr"),
            "opacus": _version("opacus"),
            "onnx": _version("onnx"),
            "onnxruntime": _version("onnxruntime"),
            "hydra-core": _version("hydra-core"),
        },
        "run": {
            "dir": str(run.path),
            "run_id": run.run_id,
            "seed": config.seed,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": join(["fedlite", "simulate", *load_overrides(run.path)]),
        },
        "audits": audits,
        "config": config.to_plain(),
        "changed": changed_options(config),
        "history": history,
    }
    if "memory" in federated:
        report["memory"] = federated["memory"]
    if quality := measured.get("quality"):
        names = splits.task.class_names
        report["quality"] = {name: quality_entry(one, names) for name, one in quality.items()}
    if "cascade" in measured:
        report["cascade"] = cascade_section(measured, config.cascade)
    if (fleet := pipeline.fleet) is not None:
        rounds = [one["simulated"] for one in history]
        report["fleet"] = fleet_section(device_entries(fleet), rounds)
    return report


def _sweep(run: RunDirectory) -> PrivacyOfSweep:
    """What all jobs of a sweep spent, where this run is one of them and the sweep has ended."""
    file = run.path.parent / SWEEP_FILE
    sweep = read_json(file) if file.is_file() else {"run_ids": []}
    return {"together": sweep["together"]} if run.run_id in sweep["run_ids"] else {}


def with_groups(privacy: PrivacySection, plans: Plans, spent: Spent) -> PrivacySection:
    """``privacy`` with what several examples of one client cost together (``groups``)."""
    plan = plans.example
    for unit in privacy["units"]:
        if unit["unit"] == "client" or plan is None:
            continue
        histories = [segments(ledger, plan.trust) for ledger in spent.clients]
        if "participations_max" not in unit:  # who took part how often is hidden: rule 15
            z, q, steps = plan.segment
            histories.append([(z, q, steps * plan.max_participations)])
        together = {
            str(size): max(
                group_epsilon(history, size, plan.delta, unit["accountant"])
                for history in largest_histories(histories)
            )
            for size in GROUP_SIZES
        }
        unit["groups"] = {
            size: epsilon for size, epsilon in together.items() if math.isfinite(epsilon)
        }
    return privacy


def _federation(config: Config, num_clients: int, facts: FederateFacts) -> FederationSection:
    history = facts["history"]
    trained = sum(one["clients_trained"] for one in history)
    refused = sum(one["clients_refused"] for one in history)
    failed = sum(one["clients_failed"] for one in history)
    refusals = sum((Counter(one["refusals"]) for one in history), Counter[str]())
    return {
        "num_clients": num_clients,
        "rounds": len(history),
        "rounds_planned": config.federation.rounds,
        "clients_per_round": (trained + refused + failed) / max(1, len(history)),
        "strategy": config.federation.strategy.name,
        "engine": config.engine.name,
        "local_steps": config.federation.local_steps,
        "clients_trained": trained,
        "clients_refused": refused,
        "clients_failed": failed,
        "refusals": dict(refusals),
        "rounds_not_released": sum(not one["released"] for one in history),
        "stopped": facts["stopped"],
        "epsilons": last_epsilons(facts),
    }


def _judgement(
    config: Config,
    compressed: CompressFacts,
    measured: EvaluateFacts,
    majority: MajoritySection | None,
) -> JudgementSection:
    """Directories of before there was a choice kept the federated student unasked."""
    chosen = "kept" in compressed
    found: JudgementSection = {
        "ships": compressed.get("kept", "federated_student"),
        "keep": config.federation.keep if chosen else "last",
        "validation": _judged(compressed.get("validation")),
        "test": _judged(measured.get("tested_pair")),
    }
    if "validation_scores" in compressed:
        found["validation_scores"] = judged_scores(PairedScores(**compressed["validation_scores"]))
    if "tested_scores" in measured:
        found["test_scores"] = judged_scores(PairedScores(**measured["tested_scores"]))
    if majority is not None:
        found["majority"] = majority
    return found


def _majority(pipeline: Pipeline) -> MajoritySection | None:
    """Whether the student that ships answers one class nearly always, by the test set."""
    facts, names = pipeline.run.facts, pipeline.splits.task.class_names
    kept = facts["compress"].get("kept", "federated_student")
    return majority_of(kept, facts[MODEL_STAGES[kept]]["evaluation"]["confusion"], names)


def _judged(facts: PairedFacts | None) -> JudgedPair | None:
    return judged_pair(PairedComparison(**facts)) if facts else None


def _compression(facts: CompressFacts, measured: EvaluateFacts) -> CompressionSection:
    float_ops = (
        one["float_ops"] for one in facts["artefacts"] if one["name"] == "quantized_student.onnx"
    )
    return {
        **facts["options"],
        "judges": facts["judges"],
        "shipped": facts["shipped"],
        "folded_norms": facts["folded_norms"],
        "public_accuracy": facts["public_accuracy"],
        "parameters_before": facts["parameters_before"],
        "parameters_folded": facts["parameters_folded"],
        "parameters_after": facts["parameters_after"],
        "nonzero_weights": facts["nonzero_weights"],
        "max_difference": facts["max_difference"],
        "gzip_bytes": {key: one["cost"]["gzip_bytes"] for key, one in measured["models"].items()},
        "float_ops": next(float_ops, []),
    }


def _measures(facts: MeasurementFacts) -> FileMeasures:
    cost = facts["cost"]
    return {
        "accuracy": facts["accuracy"],
        "macro_f1": facts["macro_f1"],
        "parameters": facts["parameters"],
        "bytes": cost["bytes"],
        "gzip_bytes": cost["gzip_bytes"],
        "load_ms": cost["load_ms"],
        "peak_memory_bytes": cost["peak_memory_bytes"],
        "runtime": cost["runtime"],
    }


def _model(facts: MeasurementFacts) -> ModelEntry:
    """A measured model as ``models`` shows it."""
    by_batch = facts["cost"]["latency_ms"]
    return {
        **_measures(facts),
        "latency_ms": by_batch["1"],
        "latency_ms_by_batch": by_batch,
    }


def _measured(entry: ArtefactEntry, facts: MeasurementFacts | None) -> ArtefactEntry:
    """An artefact with what measuring adds; as it was where this machine cannot run it."""
    if facts is None:
        return entry
    return {**entry, **_measures(facts), "latency_ms_by_batch": facts["cost"]["latency_ms"]}


def _baseline(facts: BaselineFacts) -> ArtefactEntry:
    """A teacher, or eager torch, as a row beside the artefacts; eager answers are the file's."""
    entry: ArtefactEntry = {
        "name": facts["name"],
        "model": facts["model"],
        "format": facts["format"],
        "precision": "fp32",
        "refused": "",
    }
    return _measured(entry, facts["measurement"])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
