"""The same rounds on fedlite and its peers: seconds a round, and until the first has ended.

    python scripts/bench_simulation.py [--private] [--student cnn] [--clients 20] [--side 8]
        [--examples 64] [--batch 32] [--rounds 12] [--turns 5] [--programs bare fedlite ...]

Work and clock are those of scripts/peers/work.py: one step of SGD of every client in every round,
on the same student and examples, with example-level DP-SGD if `--private`. Programs take turns,
each in a process of its own with one thread for each worker, and a figure is the median over turns
of the median round (the first one apart, in which caches fill). Peers live in environments of their
own below --environments, built when first asked for; what cannot be built is left out and said.
With --record the figures are kept in docs/benchmarks, with --picture they are drawn.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from record import record_run

PEERS = Path(__file__).resolve().parent / "peers"
CLASSES, PUBLIC = 10, 20
FLOOR = "bare"


@dataclass(frozen=True)
class Program:
    """What runs the work: a file of scripts/peers, where, and on how many workers."""

    name: str
    file: str
    workers: int = 1
    private: bool = True  # whether it can clip and noise single examples on the client
    packages: tuple[str, ...] = ()  # of an environment of its own; none: this one
    pythons: tuple[str, ...] = ()  # interpreters for it, the first that is there


PROGRAMS = {
    "bare": Program("bare loop in PyTorch", "bare.py"),
    "fedlite": Program("fedlite", "with_fedlite.py"),
    "fedlite-2": Program("fedlite, 2 workers", "with_fedlite.py", workers=2),
    "flower": Program("Flower on Ray", "with_flower.py"),
    "flower-2": Program("Flower on Ray, 2 workers", "with_flower.py", workers=2),
    "pfl": Program(
        "pfl-research", "with_pfl.py", private=False, packages=("pfl==0.6.0", "torch>=2.10")
    ),
    "blazefl": Program(
        "BlazeFL",
        "with_blazefl.py",
        private=False,
        packages=("blazefl==2.0.3", "tqdm", "torch>=2.10"),
        pythons=("python3.14", "python3.13", "python3.12"),
    ),
}


@dataclass
class Figures:
    """What one program took, turn by turn: seconds until its first round had ended, and of the
    median round after it."""

    starts: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)

    @property
    def round(self) -> float:
        """Seconds a round: the median over turns."""
        return statistics.median(self.rounds)


def main() -> None:
    """Measure, print, and record or draw if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--private", action="store_true")
    parser.add_argument("--student", choices=("cnn", "mlp"), default="cnn")
    for name, default in (
        *(("clients", 20), ("side", 8), ("examples", 64), ("batch", 32)),
        *(("rounds", 12), ("turns", 5)),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument(
        "--environments", type=Path, default=Path.home() / ".cache" / "fedlite-peers"
    )
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    if given.rounds < 3:
        parser.error("--rounds: 3 or more; the first is apart")
    if given.batch > given.examples:
        parser.error("--batch: a client's --examples at most")

    pythons: dict[str, str] = {}
    for key in given.programs:
        program = PROGRAMS[key]
        if given.private and not program.private:
            print(f"{program.name}: left out, its clients add no noise")
        elif python := environment(program, given.environments):
            pythons[key] = python
    found = {key: Figures() for key in pythons}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_work(folder, given)
        for _ in range(given.turns):
            for key, python in pythons.items():
                told = run(PROGRAMS[key], python, folder, given)
                found[key].starts.append(told["start"] + told["rounds"][0])
                found[key].rounds.append(statistics.median(told["rounds"][1:]))
    show(found)
    if given.picture:
        draw(found, given.picture)
    if given.record:
        record_run("simulation", {key: vars(one) for key, one in found.items()})


def environment(program: Program, folder: Path) -> str | None:
    """The interpreter for a program, in an environment that is made if it is not there.

    None where no interpreter serves or pip fails; says so.
    """
    if not program.packages:
        return sys.executable
    home = folder / Path(program.file).stem
    python = home / "bin" / "python"
    if (home / "complete").exists():
        return str(python)
    wanted = program.pythons or (sys.executable,)
    base = next(filter(None, map(shutil.which, wanted)), None)
    if base is None:
        print(f"{program.name}: left out, needs one of {', '.join(wanted)}")
        return None
    print(f"{program.name}: making {home}")
    subprocess.run([base, "-m", "venv", "--clear", str(home)], check=True)
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "numpy", *program.packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"{program.name}: left out, {done.stderr.strip().splitlines()[-1]}")
        return None
    (home / "complete").touch()
    return str(python)


def write_work(folder: Path, given: argparse.Namespace) -> None:
    """Invented examples, equally many for each client, and a few that fedlite takes as public."""
    draws = np.random.default_rng(0)

    def examples(count: int) -> tuple[np.ndarray, np.ndarray]:
        inputs = draws.integers(0, 256, (count, 1, given.side, given.side), dtype=np.uint8)
        return inputs, np.arange(count) % CLASSES

    x_train, y_train = examples(given.clients * given.examples)
    x_public, y_public = examples(PUBLIC)
    np.savez(folder / "work.npz", x_train=x_train, y_train=y_train)
    np.savez(
        folder / "fedlite.npz",
        x_train=np.concatenate([x_train, x_public]),
        y_train=np.concatenate([y_train, y_public]),
        x_test=x_public,
        y_test=y_public,
    )


def run(program: Program, python: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What a program tells of one run of the work.

    Raises:
        SystemExit: it failed; gives the end of what it said.
    """
    work = {
        "student": given.student,
        "clients": given.clients,
        "rounds": given.rounds,
        "batch_size": given.batch,
        "learning_rate": 0.1,
        "noise_multiplier": 1.0 if given.private else None,
        "max_grad_norm": 1.0,
        "workers": program.workers,
    }
    (folder / "work.json").write_text(json.dumps(work))
    surroundings = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "PYTHONPATH": str(PEERS),
        "BENCH_WORK": str(folder),
        "BENCH_STARTED": repr(time.time()),
    }
    done = subprocess.run(
        [python, str(PEERS / program.file)],
        capture_output=True,
        text=True,
        check=False,
        env=surroundings,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith('{"start"')]
    if done.returncode or not told:
        raise SystemExit(f"{program.name}: failed\n{(done.stderr or done.stdout)[-2000:]}")
    found: dict[str, Any] = json.loads(told[-1])
    if not found["moved"] > 0 or len(found["rounds"]) != given.rounds:
        raise SystemExit(f"{program.name}: did not train for {given.rounds} rounds")
    return found


def show(found: dict[str, Figures]) -> None:
    """A line for each program: the median round with its spread, against the floor, and the seconds
    until its first round has ended."""
    print(f"{'':28}{'ms a round':>12}{'least..most':>18}{'bare = 1':>10}{'first, s':>10}")
    floor = found[FLOOR].round if FLOOR in found else None
    for key, one in sorted(found.items(), key=lambda pair: pair[1].round):
        spread = f"{1000 * min(one.rounds):.1f}..{1000 * max(one.rounds):.1f}"
        ratio = f"{one.round / floor:.2f}" if floor else "-"
        start = statistics.median(one.starts)
        print(
            f"{PROGRAMS[key].name:28}{1000 * one.round:12.1f}{spread:>18}{ratio:>10}{start:10.1f}"
        )


def draw(found: dict[str, Figures], path: Path) -> None:
    """A bar for each program's round, and for the seconds until its first round has ended."""
    from matplotlib.figure import Figure

    order = sorted(found, key=lambda key: found[key].round, reverse=True)
    figure = Figure(figsize=(9, 0.5 * len(order) + 1.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, title in (
        (left, [1000 * found[key].round for key in order], "milliseconds a round"),
        (
            right,
            [statistics.median(found[key].starts) for key in order],
            "seconds until the first round has ended",
        ),
    ):
        colours = ["#ee7733" if key.startswith("fedlite") else "#4477aa" for key in order]
        bars = axes.barh([PROGRAMS[key].name for key in order], values, color=colours)
        axes.bar_label(bars, fmt="%.3g", padding=3)
        axes.set(xlabel=title)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
