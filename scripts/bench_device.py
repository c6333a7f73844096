"""Clients a second for cohorts of 1 to 4,096, on a processor or a GPU.

    python scripts/bench_device.py [--device auto|cpu|cuda] [--cohorts 1 4 ...] [--record]

One private step of every client of a cohort, from the same weights: a sample, clipped sums, secure
noise, the step, and the student as Flower arrays on the processor, as a round does it; up to
`--together` clients are one batch. Seconds are those of the clock, since a GPU's are not the
processor's; a figure is the median of the turns, in which cohorts take turns. Beside them: the
hardware's name, and the most memory that torch took on a GPU. On a processor it is one thread.
"""

import argparse
import statistics
import time

import torch
from bench_gradients import Images
from made_up_cohort import RATE, made_up_clients, plan_of_one_step
from record import record_run
from torch import nn

from fedlite.base.compute import DEVICES, compute_device, hardware_name
from fedlite.federation.messages import State, to_arrays
from fedlite.federation.training import LocalWork, train_cohort
from fedlite.federation.transport.grid import MOST_TOGETHER
from fedlite.federation.workbench import TrainedPart
from fedlite.models.build import build_model, load_state
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import SecureRandomness
from fedlite.runs.compose import compose_config

COHORTS = tuple(4**power for power in range(7))
DIFFERENT = 32  # clients with examples of their own; larger cohorts have some of them again


def train(
    student: nn.Module,
    start: State,
    parts: list[TrainedPart],
    work: LocalWork,
    plan: PrivacyPlan,
    together: int,
) -> None:
    """One round of a cohort, ``together`` clients at a time."""
    for first in range(0, len(parts), together):
        some = parts[first : first + together]
        load_state(student, start, where="benchmark")
        draws = [SecureRandomness() for _ in some]
        with train_cohort(student, some, work, plan, draws) as state_of:
            for client in range(len(some)):
                to_arrays(state_of(client))


def main() -> None:
    """Measure, print, and record if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("--cohorts", nargs="+", type=int, default=list(COHORTS))
    parser.add_argument("--student", default="cnn")
    parser.add_argument("--side", type=int, default=28, help="of the images, in pixels")
    parser.add_argument("--batch", type=int, default=58, help="examples expected of a client")
    parser.add_argument("--together", type=int, default=MOST_TOGETHER, help="clients in one batch")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="keep it in docs/benchmarks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device, task = compute_device(options.device), Images(options.side)
    config = compose_config([f"student={options.student}"]).student
    student = build_model(config, task, seed=0).to(device)
    start = {name: value.cpu().clone() for name, value in student.state_dict().items()}
    held = round(options.batch / RATE)
    clients, plan = made_up_clients(student, task, held, DIFFERENT), plan_of_one_step(held)
    work = LocalWork(1, RATE, plan.expected_batch_size, 0.1, 0.0)
    seconds: dict[int, list[float]] = {cohort: [] for cohort in options.cohorts}
    for turn in range(options.turns + 1):
        for cohort in options.cohorts if turn else (1, 2):  # the first for warmth
            parts = [clients[number % DIFFERENT] for number in range(cohort)]
            started = time.perf_counter()
            train(student, start, parts, work, plan, options.together)
            if turn:
                seconds[cohort].append(time.perf_counter() - started)
    rates = {cohort: cohort / statistics.median(some) for cohort, some in seconds.items()}
    print(f"{options.student} on {device.type}: {hardware_name(device)}")
    for cohort, rate in rates.items():
        print(f"cohort {cohort:>5}: {rate:>10.1f} clients a second")
    figures = {
        "device": device.type,
        "hardware": hardware_name(device),
        "student": options.student,
        "batch": options.batch,
        "together": options.together,
        "clients_a_second": rates,
    }
    if device.type == "cuda":
        figures["gpu_memory_bytes"] = torch.cuda.max_memory_allocated(device)
        print(f"{figures['gpu_memory_bytes'] / 1e6:.0f} MB of the GPU's memory at most")
    if options.record:
        record_run("device", figures)


if __name__ == "__main__":
    main()
