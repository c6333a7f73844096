"""Seconds of privacy accounting: of each round, and of one calibration, with and without the memo.

    python scripts/bench_accounting.py [--epsilon 8] [--sample-rate 0.5] [--rounds 20] ...

The memo remembers the RDP of one step (fedlite/privacy/accounting.py). A round costs one epsilon,
whatever the number of clients: clients of the same history share it.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opacus.accountants.analysis import rdp as opacus_rdp

from fedlite.privacy import accounting


def clear_caches() -> None:
    """Forget every epsilon and every step's RDP."""
    accounting._epsilon.cache_clear()
    if hasattr(opacus_rdp._compute_rdp, "cache_clear"):
        opacus_rdp._compute_rdp.cache_clear()


@contextmanager
def without_memo() -> Iterator[None]:
    """Opacus as it comes."""
    memo = opacus_rdp._compute_rdp
    opacus_rdp._compute_rdp = memo.__wrapped__
    try:
        yield
    finally:
        opacus_rdp._compute_rdp = memo


def measure(options: argparse.Namespace, accountant: str) -> dict[str, float]:
    """Seconds of a calibration and of a round's epsilon: the first, and the median of the rest."""
    clear_caches()
    started = time.perf_counter()
    noise_multiplier = accounting.calibrate_noise_multiplier(
        epsilon=options.epsilon,
        delta=options.delta,
        sample_rate=options.sample_rate,
        steps=options.rounds * options.local_steps,
        accountant=accountant,
    )
    calibration = time.perf_counter() - started
    clear_caches()
    rounds = []
    for finished in range(1, options.rounds + 1):
        history = [(noise_multiplier, options.sample_rate, options.local_steps)] * finished
        started = time.perf_counter()
        spent = accounting.compute_epsilon(history, options.delta, accountant)
        rounds.append(time.perf_counter() - started)
    return {
        "noise_multiplier": noise_multiplier,
        "epsilon": spent,
        "calibration_seconds": calibration,
        "first_round_seconds": rounds[0],
        "round_seconds": statistics.median(rounds[1:]),
    }


def main() -> None:
    """Measure both accountants with and without the memo; print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--sample-rate", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--local-steps", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a JSON file")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2, since the first round is reported apart")

    results = {}
    for accountant in ("prv", "rdp"):
        with without_memo():
            results[f"{accountant}, plain"] = measure(options, accountant)
        results[f"{accountant}, memo"] = measure(options, accountant)

    print(f"{'seconds':<12}{'calibration':>13}{'first round':>13}{'each round':>13}{'epsilon':>10}")
    for name, found in results.items():
        seconds = (found[f"{key}_seconds"] for key in ("calibration", "first_round", "round"))
        print(
            f"{name:<12}" + "".join(f"{s:>13.4f}" for s in seconds) + f"{found['epsilon']:>10.3f}"
        )
    for accountant in ("prv", "rdp"):
        plain, memo = results[f"{accountant}, plain"], results[f"{accountant}, memo"]
        assert plain["epsilon"] == memo["epsilon"], "the memo must not change an epsilon"
        ratio = plain["round_seconds"] / memo["round_seconds"]
        print(f"{accountant}: the memo makes a round's epsilon {ratio:.1f} times cheaper")
    if options.output:
        options.output.write_text(json.dumps({"options": vars(options), **results}, default=str))


if __name__ == "__main__":
    main()
