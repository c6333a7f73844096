"""The report dictionary (docs/report.md), assembled from the run directory and the ledgers."""

import json
import os
import platform
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fedlite.config import Config
from fedlite.data import Splits
from fedlite.files import read_json
from fedlite.plans import Plans
from fedlite.privacy_report import privacy_section, read_spending
from fedlite.run_directory import RunDirectory

PACKAGES = ("fedlite", "torch", "flwr", "opacus", "onnx", "onnxruntime", "hydra-core")
STAGES = ("teacher", "warm_start", "plan", "federate", "compress", "evaluate")
AUDITS_FILE = "audits.json"


def assemble_report(
    config: Config,
    run: RunDirectory,
    splits: Splits,
    plans: Plans,
    ledger_dir: Path,
) -> dict[str, Any]:
    """All sections of ``report.json``; epsilons come from the ledgers, not from the plan."""
    history = run.facts("federate")["history"]
    compression = dict(run.facts("compress"))
    for key in ("fingerprint", "seconds"):
        compression.pop(key, None)
    spent = read_spending(config, plans, splits.num_clients, ledger_dir, run.run_id, history)
    audits = read_json(run.file(AUDITS_FILE)) if run.file(AUDITS_FILE).exists() else {}
    seconds = {stage: run.facts(stage).get("seconds", 0.0) for stage in STAGES}
    return {
        "models": {name: _model(facts) for name, facts in run.facts("evaluate")["models"].items()},
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
            "ratio": config.compress.ratio,
            "sparsity": config.compress.sparsity,
            "quantization": config.compress.quantization,
            **compression,
        },
        "traffic": {
            key: sum(entry[key] for entry in history)
            for key in ("bytes_down", "bytes_up", "teacher_bytes")
        },
        "timing": {**seconds, "total": sum(seconds.values()) - seconds["plan"]},  # within federate
        "environment": _environment(),
        "run": {"dir": str(run.path), "run_id": run.run_id, "seed": config.seed},
        "audits": audits,
        "config": json.loads(config.to_json()),
        "history": history,
    }


_OUTCOMES = ("trained", "refused", "failed")


def _model(facts: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in facts.items() if not k.startswith("latency_ms")}
    latency = {"p50": facts["latency_ms_p50"], "p95": facts["latency_ms_p95"]}
    return {**kept, "latency_ms": latency}


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
