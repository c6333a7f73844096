"""What a round costs beside its training, as clients grow: processor seconds, and where they go.

    python scripts/bench_rounds.py [--clients 100 1000 10000] [--cohort 50] [override ...]

For each number of clients a fresh process runs the federation of `fedlite simulate` (data, ledgers,
messages, evaluation, checkpoint; no teacher is trained, nothing compressed) on invented examples,
with one cohort size for all. A steady round is the median of the later half: a client that is asked
for the first time receives the teacher and asks it. Everything up to the end of the first round is
the start. `round alone` is a steady round whose clients train one after the other, not in one step.
Times are of this process's processor, so that what else a machine does counts little.
Where a round goes is told by a profiled run, as shares of its later half. Overrides are
those of `fedlite simulate`. With --record the figures are kept in docs/benchmarks.
"""

import argparse
import cProfile
import multiprocessing
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record_run
from rounds_alone import federate_alone

from fedlite.base.errors import FedliteError
from fedlite.base.logs import route_logs
from fedlite.base.records import Evaluation, RoundRecord
from fedlite.distill.evaluate import evaluate_model
from fedlite.federation.messages import State
from fedlite.federation.transport import grid
from fedlite.models.build import build_model, load_state
from fedlite.runs.compose import compose_config
from fedlite.runs.splits import splits_of

SHAPE, CLASSES = (1, 8, 8), 10
PER_CLIENT = 14  # examples; a fifth of all is public, a fifth of all tests
OPTIONS = (
    "dataset=npz",
    "dataset.files.data=invented.npz",
    "dataset.test_fraction=0.05",
    "student=mlp",
    "student.kwargs.hidden=[64]",
    "privacy.noise_multiplier=4.0",
    "privacy.delta=1e-5",
    "privacy.sample_rate=0.5",
)
# By what is told: a function, as its file ends and as it is called, with all that it calls.
PARTS: dict[str, tuple[str, str]] = {
    "clipped sums": ("privacy/bookkeeping.py", "clipped_sums"),
    "noise": ("privacy/noise.py", "add_noise"),
    "charges": ("privacy/ledger.py", "charge"),
    "ledgers to disk": ("federation/ledgers.py", "sync_cohort"),
    "arrays to torch": ("federation/messages.py", "to_state"),
    "arrays to Flower": ("federation/messages.py", "to_arrays"),
    "request's hash": ("federation/client_app.py", "identity"),
    "checks of replies": ("federation/gather.py", "gather"),
    "clients' answers": ("federation/sealed.py", "answer"),
    "counting of bytes": ("federation/messages.py", "count_bytes"),
    "Flower's requests": ("federation/strategy.py", "configure"),
    "Flower's average": ("federation/strategy.py", "aggregate"),
    "evaluation": ("distill/evaluate.py", "evaluate_model"),
    "checkpoint": ("federation/checkpoint.py", "save_checkpoint"),
}


@dataclass
class Rounds:
    """Processor seconds when each round ended, and a profile of the later half if one is asked."""

    rounds: int
    profile: cProfile.Profile | None = None
    ends: list[float] = field(default_factory=list)

    def on_round(self, record: RoundRecord) -> None:
        """Keep the time, and let the profile see the later half."""
        self.ends.append(time.process_time())
        if self.profile is not None and len(self.ends) == self.rounds // 2:
            self.profile.enable()
        if self.profile is not None and len(self.ends) == self.rounds:
            self.profile.disable()

    @property
    def seconds(self) -> list[float]:
        """Of each round of the later half."""
        later = self.ends[self.rounds // 2 - 1 :]
        return [after - before for before, after in pairwise(later)]


def write_examples(folder: Path, clients: int) -> None:
    """Random examples, enough for ``clients`` of them."""
    draws = np.random.default_rng(0)
    count = round(clients * PER_CLIENT / 0.76) + 500
    inputs = draws.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    labels = np.arange(count) % CLASSES
    np.savez(folder / "invented.npz", x_train=inputs, y_train=labels)


def run_rounds(clients: int, cohort: int, watcher: Rounds, overrides: list[str]) -> dict[str, Any]:
    """Run all rounds in this process; start, steady round and what lies on disk in the end."""
    torch.set_num_threads(1)
    route_logs(None)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_examples(folder, clients)
        counts = [
            f"dataset.root={folder}",
            f"federation.num_clients={clients}",
            f"federation.rounds={watcher.rounds}",
            f"federation.fraction={min(1.0, cohort / clients)}",
        ]
        config = compose_config([*OPTIONS, *counts, *overrides])
        started = time.process_time()
        splits = splits_of(config)
        probe = build_model(config.student, splits.task, config.seed)

        def evaluate(state: State) -> Evaluation:
            load_state(probe, state, where="student")
            return evaluate_model(probe, splits.test, splits.task.num_classes)

        federation = federate_alone(config, splits, folder / "run", evaluate, watcher.on_round)
        if any(record.clients_failed for record in federation.history):
            raise FedliteError("a client failed")
        checkpoint = federation.checkpoint_path
        return {
            "start": watcher.ends[0] - started,
            "round": statistics.median(watcher.seconds),
            "checkpoint_bytes": sum(
                path.stat().st_size for path in checkpoint.parent.glob(f"{checkpoint.stem}*")
            ),
            "files": sum(path.is_file() for path in (folder / "run").rglob("*")),
        }


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Of the profiled time, by :data:`PARTS`; one may lie within another."""
    stats: Any = pstats.Stats(profile)
    found = dict.fromkeys(PARTS, 0.0)
    for (file, _, function), (_, _, _, cumulative, _) in stats.stats.items():
        for part, (ending, name) in PARTS.items():
            if function == name and file.endswith(ending):
                found[part] += cumulative / stats.total_tt
    return found


def measure(clients: int, cohort: int, rounds: int, overrides: list[str]) -> dict[str, Any]:
    """All runs of one number of clients."""
    found = run_rounds(clients, cohort, Rounds(rounds), overrides)
    together, grid.MOST_TOGETHER = grid.MOST_TOGETHER, 1
    found["round alone"] = run_rounds(clients, cohort, Rounds(rounds), overrides)["round"]
    grid.MOST_TOGETHER = together
    profile = cProfile.Profile(time.process_time)
    run_rounds(clients, cohort, Rounds(rounds, profile), overrides)
    return {**found, "shares": shares(profile)}


def in_fresh_process(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What ``work`` returns in a process in which nothing is remembered."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(work, *arguments).result()


def main() -> None:
    """Measure, print, and record if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--cohort", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--record", action="store_true", help="keep it in docs/benchmarks")
    options, overrides = parser.parse_known_args()
    if options.rounds < 4:
        parser.error("--rounds: at least 4, of which the later half is measured")
    results = {
        clients: in_fresh_process(measure, clients, options.cohort, options.rounds, overrides)
        for clients in options.clients
    }
    print(f"cohort of {options.cohort}, {os.cpu_count()} cores; processor seconds")
    print(f"{'clients':<20}" + "".join(f"{clients:>12}" for clients in results))
    for row in ("start", "round", "round alone", "checkpoint_bytes", "files"):
        print(f"{row:<20}" + "".join(f"{found[row]:>12.4g}" for found in results.values()))
    for part in PARTS:
        print(f"{part:<20}" + "".join(f"{f['shares'][part]:>12.1%}" for f in results.values()))
    if options.record:
        record_run("rounds", {f"{clients} clients": found for clients, found in results.items()})


if __name__ == "__main__":
    try:
        main()
    except FedliteError as error:
        print(f"bench_rounds: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
