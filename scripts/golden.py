"""The bits that a change of structure must not move: small deterministic runs and their hashes.

    python scripts/golden.py write FILE.json      # before the change
    python scripts/golden.py compare FILE.json    # after it; exit code 1 where a hash differs

One run for each unit of privacy, one on a natural partition, one with two workers, one broken off
by kill -9 and resumed, and a few that take other paths (FedProx with several local steps, a fixed
front end, folded norms). Of each: the SHA-256 of the federated student's weights and of the ONNX
file that ships, and every epsilon. Hashes are those of one machine and one set of packages: write
and compare on the same.
"""

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from fedlite.federation.checkpoint import load_checkpoint

FEDLITE = (sys.executable, "-m", "fedlite", "simulate")
TINY = (
    "privacy.randomness=deterministic",
    "federation.num_clients=6",
    "federation.rounds=4",
    "federation=fedavgm",
    "federation.keep=last",  # a choice among so little trained students would hang on a draw
    "teacher.epochs=3",
    "teacher.kwargs.channels=[8,16,16]",
    "teacher.kwargs.hidden=32",
    "teacher.cache_dir=null",
    "distill.warm_start.epochs=3",
    "compress.recovery_steps=20",
    "compress.max_accuracy_drop=0.5",
    "compress.measure.runs=3",
    "compress.measure.warmup=1",
    "tracking.progress=false",
    "tracking.tensorboard=false",
)
RUNS: dict[str, tuple[str, ...]] = {
    "example": ("privacy=example",),
    "aggregate": ("privacy=aggregate",),
    "client": ("privacy=client", "federation.fraction=0.5", "federation.sampling=bernoulli"),
    "both": ("privacy=both",),
    "none": ("privacy=none",),
    "natural": (
        "dataset=npz",
        "dataset.root={data}",
        "dataset.files.data=grouped.npz",
        "dataset.keys.groups_train=groups",
        "partition=natural",
        "federation.num_clients=null",
    ),
    "two_workers": ("privacy=example", "engine.num_workers=2"),
    "resumed": ("privacy=example", "federation.rounds=12"),
    "fedprox_steps": (
        "federation=fedprox",
        "federation.local_steps=3",
        "federation.momentum=0.5",
        "federation.fraction=0.5",
        "partition=dirichlet",
        "distill=hard",
    ),
    "scattering": (
        "student=scattering",
        "student.kwargs.orientations=2",
        "student.kwargs.mix=8",
        "federation=fedadam",
        "privacy.client.adaptive_clip=true",
        "privacy=client",
    ),
    "folded": (
        "student=mobilenet",
        "student.kwargs.channels=[8,16]",
        "student.kwargs.depths=[1,1]",
        "compress.norms=fold",
        "compress.norm_steps=20",
        "compress=weight_only",
        "compress.sparsity=0.2",
    ),
}
SAME_AS = {"two_workers": "example"}  # by design: the number of workers changes no bit


def write_grouped_digits(folder: Path) -> None:
    """The digits of scikit-learn with an invented person for each, as the npz source reads them."""
    digits = load_digits()
    groups = np.arange(len(digits.target)) // 190
    inputs = digits.images.astype(np.uint8)[:, None]
    np.savez(folder / "grouped.npz", x_train=inputs, y_train=digits.target, groups=groups)


def run(name: str, run_dir: Path, data: Path) -> None:
    """Run one of ``RUNS`` to its end; ``resumed`` is killed once it has a checkpoint."""
    options = [text.format(data=data) for text in RUNS[name]]
    command = [*FEDLITE, *TINY, *options, f"run.dir={run_dir}", "run.resume=true"]
    if name == "resumed":
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None and not (run_dir / "checkpoint.pt").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            sys.exit(f"{name}: ended before it could be broken off")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{name}: exit code {done.returncode}: {done.stderr.strip()}")


def weights_sha256(path: Path) -> str:
    """Over names, types, shapes and values of a saved state dict."""
    digest = hashlib.sha256()
    for name, value in torch.load(path, weights_only=True).items():
        array = value.contiguous().numpy()
        digest.update(f"{name}|{array.dtype}|{array.shape}|".encode() + array.tobytes())
    return digest.hexdigest()


def result_of(run_dir: Path) -> dict[str, Any]:
    """What must stay: weights, the shipped file, the epsilons of every round and of the end."""
    report = json.loads((run_dir / "report.json").read_text())
    rounds = load_checkpoint(run_dir / "checkpoint.pt").history
    epsilons = {
        "rounds": [(one.epsilons, one.client_level_epsilon) for one in rounds],
        "units": [
            {key: value for key, value in unit.items() if "epsilon" in key or "noise" in key}
            for unit in report["privacy"]["units"]
        ],
    }
    text = json.dumps(epsilons, sort_keys=True)
    return {
        "federated_student": weights_sha256(run_dir / "federated_student.pt"),
        "student.onnx": hashlib.sha256((run_dir / "deploy/student.onnx").read_bytes()).hexdigest(),
        "epsilons": hashlib.sha256(text.encode()).hexdigest(),
        "epsilon_max": [unit["epsilon_max"] for unit in report["privacy"]["units"]],
    }


def main() -> None:
    """Run all and write or compare their hashes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="*", choices=tuple(RUNS), default=tuple(RUNS))
    parser.add_argument("--keep", type=Path, help="folder for the run directories")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        write_grouped_digits(folder)
        found = {}
        for name in given.only:
            started = time.perf_counter()
            run(name, folder / name, folder)
            found[name] = result_of(folder / name)
            print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
    broken = [
        f"{name} differs from {other}"
        for name, other in SAME_AS.items()
        if name in found and other in found and found[name] != found[other]
    ]
    if given.mode == "write":
        given.file.write_text(json.dumps(found, indent=2) + "\n")
    else:
        wanted = json.loads(given.file.read_text())
        broken += [
            f"{name}.{key} differs"
            for name in found
            for key in wanted[name]
            if found[name][key] != wanted[name][key]
        ]
    print(
        "\n".join(broken) or f"{len(found)} runs: {'written' if given.mode == 'write' else 'equal'}"
    )
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
