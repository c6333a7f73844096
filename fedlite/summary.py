"""The report dictionary (docs/report.md), assembled from the run directory and the ledgers."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from fedlite.config import Config
from fedlite.data import Splits
from fedlite.errors import FedliteError
from fedlite.federation.node import open_ledger
from fedlite.privacy import PrivacyPlan, compute_epsilon
from fedlite.privacy.ledger import Charge
from fedlite.run_directory import RunDirectory

PACKAGES = ("fedlite", "torch", "flwr", "opacus", "onnx", "onnxruntime", "hydra-core")
STAGES = ("teacher", "warm_start", "plan", "federate", "compress", "evaluate")
ADJACENCY = "add/remove one example of one client"


def assemble_report(
    config: Config,
    run: RunDirectory,
    splits: Splits,
    plan: PrivacyPlan | None,
    ledger_dir: Path,
) -> dict[str, Any]:
    """All sections of ``report.json``; epsilons come from the ledgers, not from the plan."""
    history = run.facts("federate")["history"]
    compression = dict(run.facts("compress"))
    for key in ("fingerprint", "seconds"):
        compression.pop(key, None)
    spending = None
    if plan is not None:
        ledgers = [open_ledger(ledger_dir, config, i) for i in range(splits.num_clients)]
        spending = [ledger.entries() for ledger in ledgers]
        charged = sum(charge.run == run.run_id for ledger in spending for charge in ledger)
        if charged < (trained := sum(entry["clients_trained"] for entry in history)):
            raise FedliteError(
                f"{ledger_dir}: holds {charged} charges of this run, but clients trained {trained}"
                " times; restore the ledgers, no epsilon is reported without them"
            )
    seconds = {stage: run.facts(stage).get("seconds", 0.0) for stage in STAGES}
    return {
        "models": {name: _model(facts) for name, facts in run.facts("evaluate")["models"].items()},
        "privacy": privacy_section(config, splits, plan, spending, run.run_id),
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
            "rounds": config.federation.rounds,
            "clients_per_round": float(
                np.mean([sum(h[f"clients_{k}"] for k in _OUTCOMES) for h in history])
            ),
            "strategy": config.federation.strategy.name,
            "engine": config.engine.name,
            "local_steps": config.federation.local_steps,
            **{f"clients_{k}": sum(h[f"clients_{k}"] for h in history) for k in _OUTCOMES},
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
        "config": json.loads(config.to_json()),
        "history": history,
    }


_OUTCOMES = ("trained", "refused", "failed")


def privacy_section(
    config: Config,
    splits: Splits,
    plan: PrivacyPlan | None,
    spending: Sequence[list[Charge]] | None,
    run_id: str = "",
) -> dict[str, Any]:
    """The ``privacy`` section: the plan, and with ``spending`` what every client's ledger holds."""
    section: dict[str, Any] = {
        "private": plan is not None,
        "randomness": config.privacy.randomness,
        "protects": splits.task.example,
        "units": [],
    }
    if plan is None:
        return section
    unit: dict[str, Any] = {"unit": "example"}
    if spending is not None:
        foreign = any(charge.run != run_id for ledger in spending for charge in ledger)
        histories = [[charge.segment for charge in ledger] for ledger in spending]
        by = "rdp" if foreign else plan.accountant
        epsilons = [compute_epsilon(history, plan.delta, by) for history in histories]
        unit |= {
            "epsilon_max": max(epsilons),
            "epsilon_mean": float(np.mean(epsilons)),
            "epsilon_p95": float(np.quantile(epsilons, 0.95)),
            "epsilon_rdp_max": max(compute_epsilon(h, plan.delta, "rdp") for h in histories),
            "participations_max": max(len(ledger) for ledger in spending),
            "accountant": by,
        }
    section["units"] = [
        {
            "accountant": plan.accountant,
            **unit,
            "delta": plan.delta,
            "budget": plan.epsilon,
            "noise_multiplier": plan.noise_multiplier,
            "max_grad_norm": plan.max_grad_norm,
            "sample_rate": plan.sample_rate,
            "expected_batch_size": plan.expected_batch_size,
            "steps": plan.steps,
            "max_participations": plan.max_participations,
            "sampling": "poisson",
            "adjacency": ADJACENCY,
            "trust": "local",
            "randomness": plan.randomness,
        }
    ]
    return section


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
