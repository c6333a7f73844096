"""The accountants: their agreement, and what they cost.

    python scripts/bench_accounting.py table    # the table of docs/privacy.md
    python scripts/bench_accounting.py live     # every client's epsilon in every round
    python scripts/bench_accounting.py memo     # one calibration and a round, with and without it
    python scripts/bench_accounting.py bounds   # the slowest of random plans, sane or not

The memo remembers the RDP of one step (fedlite/privacy/accounting.py). Clients of the same history
share one epsilon. With --record the figures are kept in docs/benchmarks.
"""

import argparse
import logging
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dp_accounting
import numpy as np
from dp_accounting.rdp import RdpAccountant
from record import record_run

from fedlite.base.errors import UsageError
from fedlite.privacy import accounting

ACCOUNTANTS = ("prv", "pld", "rdp")
MEMO = accounting.step_rdp

# (noise multiplier, sample rate, steps, delta)
GRID = [
    (0.6, 0.01, 1000, 1e-5),
    (0.8, 0.05, 200, 1e-5),
    (1.0, 0.01, 5000, 1e-6),
    (1.0, 1.0, 1, 1e-5),
    (1.0, 0.1, 100, 1e-3),
    (2.0, 0.1, 100, 1e-3),
    (4.0, 0.1, 100, 1e-3),
    (1.2, 0.1, 10, 1e-3),
    (1.2, 0.1, 500, 1e-3),
    (1.5, 0.5, 30, 1e-5),
    (2.5, 0.25, 120, 1e-5),
    (4.0, 1.0, 100, 1e-6),
]


def clear_caches() -> None:
    """Forget every epsilon, every step's RDP and every step's privacy loss distribution."""
    accounting.merged_epsilon.cache_clear()
    accounting.step_pld.cache_clear()
    accounting.step_prv.cache_clear()
    MEMO.cache_clear()


@contextmanager
def without_memo() -> Iterator[None]:
    """The RDP of a step worked out anew for every epsilon, as Opacus does."""
    accounting.step_rdp = MEMO.__wrapped__
    try:
        yield
    finally:
        accounting.step_rdp = MEMO


def table() -> dict[str, Any]:
    """Epsilon of a grid of plans by two libraries, as markdown; by plan."""
    logging.disable(logging.WARNING)  # dp-accounting on orders of RDP that it leaves out
    plans = ("noise", "sample rate", "steps", "delta")
    found = ("RDP Opacus", "RDP dp-accounting", "PRV Opacus", "PLD dp-accounting", "RDP / PLD")
    print(f"| {' | '.join(plans + found)} |\n|{' --: |' * len(plans + found)}")
    figures = {}
    for noise_multiplier, sample_rate, steps, delta in GRID:
        event = dp_accounting.PoissonSampledDpEvent(
            sample_rate, dp_accounting.GaussianDpEvent(noise_multiplier)
        )
        engine = RdpAccountant(orders=accounting.RDP_ORDERS).compose(event, steps)
        history = [(noise_multiplier, sample_rate, steps)]
        prv, pld, rdp = (accounting.compute_epsilon(history, delta, name) for name in ACCOUNTANTS)
        epsilons = (rdp, engine.get_epsilon(delta), prv, pld, rdp / pld)
        plan = (f"{noise_multiplier:g}", f"{sample_rate:g}", f"{steps:,}", f"{delta:.0e}")
        print(f"| {' | '.join([*plan, *(f'{epsilon:.2f}' for epsilon in epsilons)])} |")
        figures[", ".join(plan)] = dict(zip(found, map(float, epsilons), strict=True))
    return figures


def live(clients: int, rounds: int, fraction: float) -> dict[str, Any]:
    """Seconds of every client's epsilon in every round, where clients take part at random."""
    figures: dict[str, Any] = {}
    drawn = np.random.default_rng(0).random((rounds, clients)) < fraction
    counts = drawn.cumsum(axis=0)
    print(f"{clients} clients, {rounds} rounds, each asks {fraction:.0%}; seconds a round:")
    for accountant in ACCOUNTANTS:
        clear_caches()
        seconds = []
        for participations in counts:
            histories = [[(2.0, 0.25, 1)] * int(count) for count in participations]
            started = time.perf_counter()
            for history in histories:
                accounting.compute_epsilon(history, 1e-5, accountant)
            seconds.append(time.perf_counter() - started)
        found = {
            "first": seconds[0],
            "median": statistics.median(seconds),
            "slowest": max(seconds),
            "all rounds": sum(seconds),
        }
        print(f"  {accountant}: {', '.join(f'{name} {one:.3f}' for name, one in found.items())}")
        figures[accountant] = found
    clear_caches()
    started = time.perf_counter()
    for count in range(1, clients + 1):
        accounting.compute_epsilon([(2.0, 0.25, count)], 1e-5, "rdp")
    seconds_all = time.perf_counter() - started
    print(f"  rdp, no two clients alike, nothing remembered: {seconds_all:.3f}")
    return figures | {"rdp, nothing remembered": seconds_all}


def measure(options: argparse.Namespace, accountant: str) -> dict[str, float]:
    """Seconds of a calibration and of a round's epsilon: the first, and the median of the rest."""
    clear_caches()
    started = time.perf_counter()
    noise_multiplier = accounting.calibrate_noise_multiplier(
        epsilon=options.epsilon,
        delta=options.delta,
        sample_rate=options.sample_rate,
        steps=options.rounds,
        accountant=accountant,
    )
    calibration = time.perf_counter() - started
    clear_caches()
    rounds = []
    for finished in range(1, options.rounds + 1):
        history = [(noise_multiplier, options.sample_rate, 1)] * finished
        started = time.perf_counter()
        spent = accounting.compute_epsilon(history, options.delta, accountant)
        rounds.append(time.perf_counter() - started)
    return {
        "epsilon": spent,
        "calibration": calibration,
        "first round": rounds[0],
        "each round": statistics.median(rounds[1:]),
    }


def memo(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all accountants with and without the memo."""
    figures = {}
    columns = ("calibration", "first round", "each round")
    print(f"{'seconds':<12}{''.join(f'{name:>13}' for name in columns)}{'epsilon':>10}")
    for accountant in ACCOUNTANTS:
        with without_memo():
            plain = measure(options, accountant)
        kept = measure(options, accountant)
        assert plain["epsilon"] == kept["epsilon"], "the memo must not change an epsilon"
        figures[accountant] = {"plain": plain, "memo": kept}
        for name, found in figures[accountant].items():
            seconds = "".join(f"{found[column]:>13.4f}" for column in columns)
            print(f"{accountant + ', ' + name:<12}{seconds}{found['epsilon']:>10.3f}")
        ratio = plain["each round"] / kept["each round"]
        print(f"{accountant}: the memo makes a round's epsilon {ratio:.1f} times cheaper")
    return figures


def bounds(plans: int) -> dict[str, Any]:
    """The slowest epsilon and calibration of random plans, in seconds of processor time."""
    draws = random.Random(0)
    slowest: dict[str, Any] = {}

    def note(what: str, started: float, plan: tuple[float, ...]) -> None:
        seconds = time.process_time() - started
        if seconds > slowest.get(what, {"seconds": 0.0})["seconds"]:
            slowest[what] = {"seconds": seconds, "plan": plan}

    for _ in range(plans):
        noise = 10 ** draws.uniform(*draws.choice([(-300, 6), (-3, 6), (-1, 2)]))
        rate = 10 ** draws.uniform(*draws.choice([(-300, 0), (-6, 0), (-0.3, 0)]))
        steps = int(10 ** draws.uniform(0, draws.choice([2, 6])))
        delta = 10 ** draws.uniform(*draws.choice([(-300, -0.31), (-12, -2)]))
        epsilon = 10 ** draws.uniform(-3, 3)
        for accountant in ACCOUNTANTS:
            clear_caches()
            started = time.process_time()
            accounting.compute_epsilon([(noise, rate, steps)], delta, accountant)
            note(f"epsilon, {accountant}", started, (noise, rate, steps, delta))
            started = time.process_time()
            with suppress(UsageError):  # no noise meets it by this accountant
                accounting.calibrate_noise_multiplier(
                    epsilon=epsilon,
                    delta=delta,
                    sample_rate=rate,
                    steps=steps,
                    accountant=accountant,
                )
            note(f"calibration, {accountant}", started, (epsilon, rate, steps, delta))
    for what, found in slowest.items():
        print(f"{what}: at most {found['seconds']:.2f} s, at {found['plan']}")
    return slowest


def main() -> None:
    """Print the table or the measurement asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("table", "live", "memo", "bounds"))
    parser.add_argument("--plans", type=int, default=100, help="of bounds")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--fraction", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--sample-rate", type=float, default=0.5)
    parser.add_argument("--record", action="store_true", help="keep it in docs/benchmarks")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2, since the first round is reported apart")
    if options.what == "table":
        figures = table()
    elif options.what == "live":
        figures = live(options.clients, options.rounds, options.fraction)
    elif options.what == "memo":
        figures = memo(options)
    else:
        figures = bounds(options.plans)
    if options.record:
        record_run(f"accounting_{options.what}", figures)


if __name__ == "__main__":
    main()
