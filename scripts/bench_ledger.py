"""Seconds that ledgers and live accounting cost in a simulation, and their share of a run.

    python scripts/bench_ledger.py [--clients 100] [--rounds 100] [--round-seconds 2] ...

Every client charges its own ledger in every round (or a random share of them, --fraction), as the
client app does: the lock, the lines checked, the accountant asked, one line appended. In one store,
flushed to disk once for each cohort, as in a simulation; and in files of their own, flushed for
each charge, as on a device. Give --round-seconds as measured in a run of that size (its report has
them under `history`), and --directory on the disk that matters. With --record the figures are kept
in docs/benchmarks.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_accounting import clear_caches
from record import record_run

from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger_file import LedgerFile, create_ledgers
from fedlite.privacy.ledger_store import LedgerStore
from fedlite.privacy.plan import PrivacyPlan, derive_max_participations

BUDGET = 8.0
DELTA = 1e-5


def charge_all(
    options: argparse.Namespace, directory: Path, plan: PrivacyPlan, *, sync: bool
) -> list[float]:
    """Charge every round; seconds of each."""
    draws = random.Random(0)
    seconds = []
    all_names = [f"bench-client-{client_id:04d}" for client_id in range(options.clients)]
    store = LedgerStore(directory / "clients.ledgers")
    files = [LedgerFile(directory / f"{name}.ledger", name) for name in all_names]
    if sync:
        create_ledgers(files)
    else:
        store.begin(all_names)
    for server_round in range(1, options.rounds + 1):
        cohort = [i for i in range(options.clients) if draws.random() < options.fraction]
        ledgers = [files[i] if sync else store.ledger(all_names[i]) for i in cohort]
        started = time.perf_counter()
        for ledger in ledgers:
            ledger.charge(
                Charge("run", server_round, *plan.segment),
                budget=plan.epsilon,
                delta=plan.delta,
                accountant=plan.accountant,
            )
        if not sync:
            store.flush()
        seconds.append(time.perf_counter() - started)
    return seconds


def measure(options: argparse.Namespace, plan: PrivacyPlan, *, sync: bool) -> dict[str, Any]:
    """One run's charges, in files flushed each by itself (``sync``), or in one store flushed cohort
    by cohort."""
    clear_caches()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        processor = time.process_time()
        seconds = charge_all(options, Path(folder) / "new" / "ledgers", plan, sync=sync)
        processor = time.process_time() - processor
        started = time.perf_counter()
        directory = Path(folder) / "new" / "ledgers"
        if sync:
            files = sorted(directory.glob("*.ledger"))
            ledgers = [LedgerFile(path, path.stem).entries() for path in files]
        else:
            ledgers = list(LedgerStore(directory / "clients.ledgers").entries().values())
        charges = sum(map(len, ledgers))
        largest = max(
            compute_epsilon([charge.segment for charge in ledger], plan.delta, plan.accountant)
            for ledger in ledgers
        )
        final = time.perf_counter() - started
    total = sum(seconds)
    return {
        "charges": charges,
        "epsilon": largest,
        "charging_seconds": total,
        "charging_processor_seconds": processor,
        "milliseconds_per_charge": 1e3 * total / charges,
        "round_seconds": seconds,
        "final_reading_seconds": final,
        "share_of_run": total / (options.rounds * options.round_seconds),
    }


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--accountant", default="prv", choices=("prv", "pld", "rdp"))
    parser.add_argument("--round-seconds", type=float, default=2.0, help="of a whole round")
    parser.add_argument("--directory", type=Path, help="default: the system's temporary folder")
    parser.add_argument("--output", type=Path, help="a JSON file")
    parser.add_argument("--record", action="store_true", help="keep it in docs/benchmarks")
    options = parser.parse_args()

    plan = PrivacyPlan.build(
        epsilon=BUDGET,
        delta=DELTA,
        noise_multiplier=None,
        max_grad_norm=1.0,
        sample_rate=0.5,
        expected_examples=500,
        steps=1,
        max_participations=derive_max_participations(options.rounds, options.fraction),
        accountant=options.accountant,
        randomness="secure",
    )
    results = {
        "a flush for each cohort": measure(options, plan, sync=False),
        "a flush for each charge": measure(options, plan, sync=True),
    }
    print(f"{options.clients} clients, {options.rounds} rounds, accountant {options.accountant}")
    for name, found in results.items():
        print(
            f"{name} (epsilon {found['epsilon']:.3f}): {found['charges']} charges in"
            f" {found['charging_seconds']:.2f} s ({found['charging_processor_seconds']:.2f} s of"
            f" processor time), {found['milliseconds_per_charge']:.3f} ms each;"
            f" {100 * found['share_of_run']:.2f} % of a run with rounds of"
            f" {options.round_seconds:g} s; last round"
            f" {found['round_seconds'][-1] / found['round_seconds'][1]:.2f} times the second"
        )
    if options.record:
        sums = {
            name: {key: value for key, value in found.items() if key != "round_seconds"}
            for name, found in results.items()
        }
        record_run("ledger", sums)
    if options.output:
        options.output.write_text(json.dumps({"options": vars(options), **results}, default=str))


if __name__ == "__main__":
    main()
