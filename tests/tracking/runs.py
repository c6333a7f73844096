"""A finished run as the pipeline would hand it over: rounds and a report of the real schema."""

import math
from typing import Any

from fedlite.records import Evaluation, RoundRecord
from fedlite.tracking.report import round_entry

Report = dict[str, Any]

BUDGET = 8.0
CLASSES = [str(digit) for digit in range(10)]
CONFUSION = [
    [30 if true == seen else (true + seen) % 2 for seen in range(10)] for true in range(10)
]
CLASS_COUNTS = [[(client * label) % 7 for label in range(10)] for client in range(20)]


def round_record(number: int, *, rounds: int = 20, private: bool = True) -> RoundRecord:
    """One finished round of 20 clients, a little better and a little dearer than the last."""
    share = number / rounds
    evaluation = Evaluation(0.80 + 0.06 * share, 0.79 + 0.06 * share, 0.7 - 0.2 * share, CONFUSION)
    spent = [BUDGET * 0.99 * math.sqrt(share) * (1 - 0.01 * (client % 5)) for client in range(20)]
    return RoundRecord(
        round=number,
        evaluation=evaluation,
        clients_trained=19,
        clients_refused=1 if number == rounds else 0,
        clients_failed=0,
        epsilons=spent if private else [],
        bytes_down=2_500_000 if number == 1 else 2_400_000,
        bytes_up=2_400_000,
        seconds={
            "train": 0.8 + 0.01 * (number % 3),
            "aggregate": 0.02,
            "evaluate": 0.05,
            "checkpoint": 0.01,
            "total": 0.88 + 0.01 * (number % 3),
        },
        teacher_bytes=100_000 if number == 1 else 0,
    )


def _model(accuracy: float, parameters: int, size: int, latency: float) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "macro_f1": accuracy - 0.01,
        "parameters": parameters,
        "bytes": size,
        "latency_ms": {"p50": latency, "p95": 1.4 * latency},
        "peak_memory_bytes": 61_000_000,
        "runtime": "ONNX Runtime 1.31.1, CPU, 1 thread",
    }


def _config(epsilon: float | None, unit: str, seed: int) -> dict[str, Any]:
    return {
        "run": {"dir": "outputs/demo", "resume": False},
        "seed": seed,
        "dataset": {"name": "digits", "source": "digits", "root": None},
        "partition": {"name": "dirichlet", "alpha": 0.5},
        "teacher": {"name": "wide_cnn"},
        "student": {"name": "cnn", "kwargs": {}},
        "distill": {"loss": "soft", "alpha": 0.5, "temperature": 2.0},
        "privacy": {
            "unit": unit,
            "trust": "local",
            "epsilon": epsilon,
            "max_grad_norm": 1.0,
            "sample_rate": 0.5,
            "client": {"epsilon": 8.0},
        },
        "federation": {
            "num_clients": 20,
            "rounds": 20,
            "fraction": 1.0,
            "local_steps": 1,
            "learning_rate": 0.5,
            "strategy": {"name": "fedavg"},
        },
        "compress": {"ratio": 0.3, "sparsity": 0.0, "quantization": "static"},
    }


def _privacy(private: bool, randomness: str, budget: float) -> dict[str, Any]:
    unit = {
        "unit": "example",
        "epsilon_max": budget * 0.99,
        "epsilon_mean": budget * 0.97,
        "epsilon_p95": budget * 0.985,
        "epsilon_rdp_max": budget * 1.1,
        "delta": 1e-5,
        "budget": budget,
        "noise_multiplier": 1.31,
        "max_grad_norm": 1.0,
        "sample_rate": 0.5,
        "steps": 1,
        "participations_max": 20,
        "max_participations": 20,
        "adjacency": "add/remove one example of one client",
        "accountant": "prv",
        "trust": "local",
        "sampling": "poisson",
        "randomness": randomness,
    }
    return {
        "private": private,
        "randomness": randomness,
        "units": [unit] if private else [],
        "protects": "one image of a handwritten digit",
        "statement": "",
    }


def finished_report(
    *,
    epsilon: float = BUDGET,
    private: bool = True,
    randomness: str = "secure",
    federated: float = 0.86,
    run_id: str = "a1b2c3",
    seed: int = 0,
) -> Report:
    """A whole report dictionary; every call makes a new one."""
    records = [round_record(number, private=private) for number in range(1, 21)]
    return {
        "run": {"dir": "outputs/demo", "run_id": run_id, "seed": seed},
        "dataset": {
            "name": "digits",
            "classes": CLASSES,
            "public": 287,
            "private": 1150,
            "test": 360,
            "partition": "dirichlet",
        },
        "models": {
            "teacher": _model(0.93, 512_000, 2_050_000, 0.81),
            "public_student": _model(0.80, 30_250, 123_400, 0.061),
            "federated_student": _model(federated, 30_250, 123_400, 0.061),
            "pruned_student": _model(federated - 0.003, 15_400, 64_300, 0.045),
            "quantized_student": _model(federated - 0.005, 15_400, 24_100, 0.038),
        },
        "privacy": _privacy(private, randomness, epsilon),
        "federation": {
            "num_clients": 20,
            "rounds": 20,
            "clients_per_round": 20,
            "strategy": "fedavg",
            "engine": "inprocess",
            "local_steps": 1,
            "clients_trained": 380,
            "clients_refused": 1,
            "clients_failed": 0,
            "stopped": "",
        },
        "compression": {
            "ratio": 0.3,
            "sparsity": 0.0,
            "quantization": "static",
            "parameters_before": 30_250,
            "parameters_after": 15_400,
            "max_difference": 2.1e-6,
            "float_ops": 0,
            "gzip_bytes": 19_900,
        },
        "traffic": {"bytes_down": 48_100_000, "bytes_up": 48_000_000, "teacher_bytes": 41_000_000},
        "timing": {
            "data": 0.4,
            "teacher": 9.1,
            "warm_start": 3.3,
            "federate": 17.8,
            "compress": 5.2,
            "evaluate": 6.4,
            "total": 42.2,
        },
        "environment": {"python": "3.12", "torch": "2.13.0", "flwr": "1.41.0", "opacus": "1.6.0"},
        "config": _config(epsilon if private else None, "example" if private else "none", seed),
        "history": [round_entry(record) for record in records],
    }
