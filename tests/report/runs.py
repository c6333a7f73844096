"""A finished run as the pipeline would hand it over: rounds and a report of the real schema."""

import math
from typing import Any

from fedlite.base.intervals import PairedComparison
from fedlite.base.records import Evaluation, RoundRecord
from fedlite.report.judged import judged_pair
from fedlite.report.write import round_entry

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


def simulated(number: int) -> dict[str, float]:
    """What a round of a minute on a simulated fleet tells."""
    counts = {"asked": 20, "away": 3, "left": 1, "not_counted": 2}
    return {"seconds": 60, "clock_seconds": 60 * number, "joules": 5, **counts}


ORT, LITERT = (
    "onnxruntime 1.31.1 cpu, 1 thread",
    "litert 2.3.0 cpu, 1 thread, batches over 1 looped",
)
COSTS = {  # by name: accuracy against the federated student's, bytes, milliseconds at batch 1
    "teacher.onnx": (0.07, 2_050_000, 0.81),
    "public_student.onnx": (-0.06, 123_400, 0.061),
    "federated_student.onnx": (0.0, 123_400, 0.061),
    "folded_student.onnx": (0.001, 121_000, 0.041),
    "pruned_student.onnx": (-0.003, 64_300, 0.045),
    "quantized_student.onnx": (-0.005, 24_100, 0.038),
    "teacher.torch": (0.07, 2_060_000, 2.4),
    "federated_student.torch": (0.0, 126_000, 0.52),
    "pruned_student.litert": (-0.003, 66_000, 0.040),
    "quantized_student.litert": (-0.008, 22_300, 0.024),
    "pruned_student.executorch": (-0.003, 63_000, 0.055),
    "quantized_student.executorch": (-0.2, 25_000, 0.049),
}
PARAMETERS = {"teacher": 512_000, "pruned_student": 15_400, "quantized_student": 15_400}


def _cost(name: str, federated: float) -> dict[str, Any]:
    gain, size, latency = COSTS[name]
    accuracy = 0.93 if name.startswith("teacher") else federated + gain
    if name.startswith("public_student"):
        accuracy = 0.80
    return {
        "accuracy": accuracy,
        "macro_f1": accuracy - 0.01,
        "parameters": PARAMETERS.get(name.split(".")[0], 30_250),
        "bytes": size,
        "gzip_bytes": size * 9 // 10,
        "latency_ms_by_batch": {
            "1": {"p50": latency, "p95": 1.4 * latency, "min": 0.9 * latency},
            "32": {"p50": 20 * latency, "p95": 24 * latency, "min": 19 * latency},
        },
        "load_ms": 1.5,
        "peak_memory_bytes": 61_000_000,
        "runtime": {"litert": LITERT, "torch": "torch 2.13.0 eager cpu, 1 thread"}.get(
            name.split(".")[1], ORT
        ),
    }


def _model(name: str, federated: float) -> dict[str, Any]:
    cost = _cost(f"{name}.onnx", federated)
    return cost | {"latency_ms": cost["latency_ms_by_batch"]["1"]}


def _artefact(name: str, federated: float) -> dict[str, Any]:
    model, form = name.split(".")
    small = model == "quantized_student"
    entry: dict[str, Any] = {
        "name": name,
        "model": model,
        "format": form,
        "precision": "int8" if small else "fp32",
        "refused": "",
    }
    if form == "torch":
        return entry | _cost(name, federated)
    entry |= {
        "file": f"models/{model}.{form}",
        "snr_db": 34.2 if small else 118.0,
        "agreement": 0.985 if small else 1.0,
        "public_accuracy": 0.87,
        "accuracy_drop": 0.004,
        "float_ops": ["Softmax"] if small and form == "onnx" else [],
    }
    if form == "coreml":  # runs nowhere but on Apple's machines
        unknown = ("snr_db", "agreement", "public_accuracy", "accuracy_drop")
        return entry | dict.fromkeys(unknown)
    if name == "quantized_student.executorch":
        entry |= {"snr_db": 11.0, "refused": "SNR 11.0 dB is under compress.min_snr_db=20"}
    return entry | _cost(name, federated)


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
        "compress": {
            "norms": "fold",
            "ratio": 0.3,
            "criterion": "l2",
            "sparsity": 0.0,
            "quantization": "static",
            "bits": 8,
        },
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


def search_section() -> dict[str, Any]:
    """The report's ``search`` after 40 trials that reached their target."""
    return {
        "kind": "compression",
        "trials": 40,
        "feasible": 22,
        "failed": 1,
        "seconds": 754.0,
        "chosen": {"ratio": 0.4, "criterion": "taylor", "quantization": "static"},
        "default": {"accuracy": 0.862, "latency_ms": 0.038, "bytes": 24_100},
        "best": {"accuracy": 0.859, "latency_ms": 0.031, "bytes": 18_200},
        "target": {"latency_ms": 0.2, "bytes": 20_000},
        "reached": True,
        "text": "Smallest file within the limits: 18.2 kB.",
        "pictures": ["search_trials"],
    }


VALIDATION = PairedComparison(120, 90, 4, 12)


def judgement(
    test: PairedComparison | None,
    validation: PairedComparison | None = VALIDATION,
    *,
    ships: str = "federated_student",
    keep: str = "best",
) -> dict[str, Any]:
    """The report's ``judgement`` of the public-only student (first) and the federated one."""
    return {
        "ships": ships,
        "keep": keep,
        "validation": validation and judged_pair(validation),
        "test": test and judged_pair(test),
    }


def finished_report(
    *,
    epsilon: float = BUDGET,
    private: bool = True,
    randomness: str = "secure",
    federated: float = 0.86,
    run_id: str = "a1b2c3",
    seed: int = 0,
    search: dict[str, Any] | None = None,
) -> Report:
    """A whole report dictionary; every call makes a new one."""
    records = [round_record(number, private=private) for number in range(1, 21)]
    return {
        "run": {"dir": "outputs/demo", "run_id": run_id, "seed": seed},
        "dataset": {
            "name": "digits",
            "classes": len(CLASSES),
            "public": 287,
            "private": 1150,
            "test": 360,
            "partition": "dirichlet",
        },
        "models": {
            key: _model(key, federated)
            for key in (
                "teacher",
                "public_student",
                "federated_student",
                "folded_student",
                "pruned_student",
                "quantized_student",
            )
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
            "epsilons": round_record(20).epsilons if private else [],
        },
        "judgement": judgement(PairedComparison(360, 284, 4, 26)),
        "compression": {
            "ratio": 0.3,
            "sparsity": 0.0,
            "quantization": "static",
            "parameters_before": 30_250,
            "parameters_folded": 30_250,
            "parameters_after": 15_400,
            "max_difference": 2.1e-6,
            "folded_norms": ["blocks.0.norm", "blocks.1.norm"],
            "float_ops": ["Softmax"],
            "gzip_bytes": {"pruned_student": 57_900, "quantized_student": 19_900},
            "public_accuracy": {"federated_student": 0.8712, "pruned_student": 0.869},
            "shipped": {"onnx": "quantized_student.onnx", "litert": "quantized_student.litert"},
        },
        "artefacts": [
            _artefact(name, federated)
            for name in (
                "teacher.torch",
                "federated_student.torch",
                "pruned_student.onnx",
                "quantized_student.onnx",
                "pruned_student.litert",
                "quantized_student.litert",
                "pruned_student.executorch",
                "quantized_student.executorch",
                "quantized_student.coreml",
            )
        ],
        "search": search,
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
        "memory": {
            "process_bytes": 913_400_000,
            "fork_server_bytes": 387_600_000,
            "worker_bytes": [41_200_000, 52_300_000],
        },
        "environment": {"python": "3.12", "torch": "2.13.0", "flwr": "1.41.0", "opacus": "1.6.0"},
        "changed": {
            "student.kwargs": {"channels": [8, 8]},
            "privacy.epsilon": epsilon,
            "federation.rounds": 20,
            "teacher.checkpoint": None,
        },
        "config": _config(epsilon if private else None, "example" if private else "none", seed),
        "history": [round_entry(record) for record in records],
    }
