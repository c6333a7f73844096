"""The report dictionary (docs/report.md), assembled from the run directory and the ledgers."""

import os
import platform
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fedlite.audit.attacks import AUDITS_FILE
from fedlite.base.files import read_json
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.spending import privacy_section, read_spending

PACKAGES = ("fedlite", "torch", "flwr", "opacus", "onnx", "onnxruntime", "hydra-core")
TIMED = ("teacher", "warm_start", "plan", "federate", "compress", "evaluate")


def assemble_report(pipeline: Pipeline) -> dict[str, Any]:
    """All sections of ``report.json``; epsilons come from the ledgers, not from the plan."""
    config, run, splits, plans = pipeline.config, pipeline.run, pipeline.splits, pipeline.plans
    history = run.facts("federate")["history"]
    compression = dict(run.facts("compress"))
    for key in ("fingerprint", "seconds"):
        compression.pop(key, None)
    options, search = compression.pop("options"), compression.pop("search", None)
    artefacts = compression.pop("artefacts")
    measured = run.facts("evaluate")
    spent = read_spending(
        config, plans, splits.num_clients, pipeline.ledger_dir, run.run_id, history
    )
    audits = read_json(run.file(AUDITS_FILE)) if run.file(AUDITS_FILE).exists() else {}
    seconds = {name: run.facts(name).get("seconds", 0.0) for name in TIMED}
    return {
        "models": {name: _model(facts) for name, facts in measured["models"].items()},
        "artefacts": [
            *map(_baseline, measured["baselines"]),
            *(one | _measured(measured["artefacts"].get(one["name"])) for one in artefacts),
        ],
        "privacy": privacy_section(config, splits, plans, spent, audits),
        "dataset": {
            "name": config.dataset.name,
            "classes": splits.task.num_classes,
            "public": len(splits.public) + len(splits.public_validation),
            "private": sum(splits.client_sizes()),
            "test": len(splits.test),
            "evaluated_on": config.dataset.evaluate_on,
            "partition": config.partition.name,
        },
        "federation": {
            "num_clients": splits.num_clients,
            "rounds": len(history),
            "rounds_planned": config.federation.rounds,
            "clients_per_round": sum(h[f"clients_{k}"] for h in history for k in _OUTCOMES)
            / max(1, len(history)),
            "strategy": config.federation.strategy.name,
            "engine": config.engine.name,
            "local_steps": config.federation.local_steps,
            **{f"clients_{k}": sum(h[f"clients_{k}"] for h in history) for k in _OUTCOMES},
            "refusals": dict(sum((Counter(h["refusals"]) for h in history), Counter())),
            "rounds_not_released": sum(not h["released"] for h in history),
            "stopped": run.facts("federate")["stopped"],
        },
        "compression": {
            **options,
            **compression,
            "gzip_bytes": {
                name: facts["cost"]["gzip_bytes"] for name, facts in measured["models"].items()
            },
            "float_ops": next(
                (one["float_ops"] for one in artefacts if one["name"] == "quantized_student.onnx"),
                [],
            ),
        },
        "search": search,
        "traffic": {
            key: sum(entry[key] for entry in history)
            for key in ("bytes_down", "bytes_up", "teacher_bytes")
        },
        "timing": {**seconds, "total": sum(seconds.values())},
        "environment": _environment(),
        "run": {"dir": str(run.path), "run_id": run.run_id, "seed": config.seed},
        "audits": audits,
        "config": config.to_plain(),
        "history": history,
    }


_OUTCOMES = ("trained", "refused", "failed")


def _model(facts: dict[str, Any]) -> dict[str, Any]:
    """A measured model as ``models`` shows it."""
    cost = dict(facts["cost"])
    by_batch = cost.pop("latency_ms")
    return {
        **{key: value for key, value in facts.items() if key != "cost"},
        **cost,
        "latency_ms": by_batch["1"],
        "latency_ms_by_batch": by_batch,
    }


def _measured(facts: dict[str, Any] | None) -> dict[str, Any]:
    """What measuring adds to an artefact; nothing where this machine cannot run it."""
    if facts is None:
        return {}
    return {key: value for key, value in _model(facts).items() if key != "latency_ms"}


def _baseline(entry: dict[str, Any]) -> dict[str, Any]:
    """A teacher, or eager torch, as a row beside the artefacts; eager answers are the file's."""
    rest = {key: value for key, value in entry.items() if key != "measurement"}
    return rest | {"precision": "fp32", "refused": ""} | _measured(entry["measurement"])


def _environment() -> dict[str, Any]:
    versions: dict[str, Any] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        **versions,
    }
