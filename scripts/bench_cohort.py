"""CPU time of one private step of a cohort: together, client by client, and against plain SGD.

    python scripts/bench_cohort.py [--cases mlp cnn ...] [--clients N] [--turns 5] [--record]

All clients of a round start from the same weights. `bare` is plain SGD in a bare torch loop, one
client after the other: weights, a sample, losses, one backward pass, a step, a copy of the state.
`alone` is the private step of one client after the other (clip, secure noise), `together` the same
in one step for up to 32 clients; both in units of `bare`. Cases take turns, on one thread; a figure
is the median of the ratios of single turns, so that what else the machine does falls on all. What a
round costs beside its training is told by scripts/bench_rounds.py.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from bench_gradients import Images
from made_up_cohort import RATE, made_up_clients, plan_of_one_step
from record import record_run
from torch import Tensor

from fedlite.federation.messages import State
from fedlite.federation.training import LocalWork, train_client, train_cohort
from fedlite.federation.transport.grid import MOST_TOGETHER
from fedlite.models.build import build_model, load_state
from fedlite.privacy.randomness import SecureRandomness
from fedlite.runs.compose import compose_config

RATE_OF_STEP = 0.1  # of learning


class Case(NamedTuple):
    """A student on square grey images, and the expected batch of each of some clients."""

    student: str
    side: int
    clients: int
    batch: int


CASES = {
    "mlp": Case("mlp", 8, 50, 14),
    "mlp_28": Case("mlp", 28, 50, 14),
    "scattering": Case("scattering", 28, 100, 58),
    "cnn": Case("cnn", 28, 100, 145),
    "cnn_8": Case("cnn", 8, 20, 32),
    "mobilenet": Case("mobilenet", 28, 20, 32),
}


def measure(case: Case, turns: int) -> dict[str, float]:
    """Milliseconds of a client in the bare loop, and the ratios of the others to it."""
    task = Images(case.side)
    student = build_model(compose_config([f"student={case.student}"]).student, task, seed=0)
    start = {name: value.clone() for name, value in student.state_dict().items()}
    held = round(case.batch / RATE)
    parts, plan = made_up_clients(student, task, held, case.clients), plan_of_one_step(held)
    work = LocalWork(1, RATE, plan.expected_batch_size, RATE_OF_STEP, 0.0)

    def put_on() -> None:
        load_state(student, start, where="benchmark")

    def bare() -> list[State]:
        found = []
        student.train()
        optimizer = torch.optim.SGD(student.parameters(), lr=RATE_OF_STEP)
        for one in parts:
            student.load_state_dict(start)
            rows = (torch.rand(held) < RATE).nonzero().reshape(-1)
            losses: Tensor = one.losses(one.module, rows)
            (losses.sum() / plan.expected_batch_size).backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append({name: value.clone() for name, value in student.state_dict().items()})
        return found

    def alone() -> list[State]:
        found = []
        for one in parts:
            put_on()
            found.append(train_client(student, one, work, plan, SecureRandomness()))
        return found

    def together() -> list[State]:
        found = []
        for first in range(0, len(parts), MOST_TOGETHER):
            some = parts[first : first + MOST_TOGETHER]
            put_on()
            draws = [SecureRandomness() for _ in some]
            with train_cohort(student, some, work, plan, draws) as state_of:
                found += [state_of(client) for client in range(len(some))]
        return found

    bare_seconds, ratios = [], {"alone": [], "together": []}
    for _ in range(turns):
        bare_seconds.append(seconds(bare))
        ratios["alone"].append(seconds(alone) / bare_seconds[-1])
        ratios["together"].append(seconds(together) / bare_seconds[-1])
    found = {"bare_ms": 1e3 * statistics.median(bare_seconds) / case.clients}
    return found | {name: statistics.median(ones) for name, ones in ratios.items()}


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of ``work``."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Measure, print, and record if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--clients", type=int, help="in every case, instead of its own number")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="keep it in docs/benchmarks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    heads = ("bare_ms", "alone", "together")
    print(f"{'case':<12}{'clients':>8}{'batch':>7}" + "".join(f"{head:>10}" for head in heads))
    for name in options.cases:
        case = CASES[name]
        case = case._replace(clients=options.clients or case.clients)
        measure(case._replace(clients=2), 1)  # for warmth
        found = results[name] = measure(case, options.turns)
        figures = "".join(f"{found[head]:>10.3g}" for head in heads)
        print(f"{name:<12}{case.clients:>8}{case.batch:>7}{figures}", flush=True)
    if options.record:
        record_run("cohort", results)


if __name__ == "__main__":
    main()
