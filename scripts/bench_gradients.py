"""CPU time of a private step against plain SGD of the same batch, by student, batch and engine.

    python scripts/bench_gradients.py [--students cnn mlp ...] [--batches 16 64 256] [--record]

A step is a round of one: the engine is entered, one clipped sum is made, and left. Plain SGD is
autograd's sum of the same losses. Cases take turns, on one thread; a figure is the median of the
ratios of single turns, so that what else the machine does falls on both. `own format` is without
channels_last; `noise` adds secure noise. The last column is how far book-keeping's sum is from
Opacus', in units of that. With --record the figures are kept in docs/benchmarks.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from record import record_run
from torch import Tensor, nn

from fedlite.distill.answers import Answers
from fedlite.distill.loss import TaughtExamples, build_loss
from fedlite.distill.options import DistillOptions
from fedlite.models.build import FixedFrontEnd, build_model
from fedlite.privacy import bookkeeping
from fedlite.privacy.clipping import ClippedSum, ExampleLosses
from fedlite.privacy.engines import ENGINES
from fedlite.privacy.noise import add_noise
from fedlite.privacy.randomness import SecureRandomness
from fedlite.privacy.steps import plain_sum
from fedlite.runs.compose import compose_config

STUDENTS = ("cnn", "mlp", "mobilenet", "scattering", "staged", "staged_small", "transformer")
CLASSES, CLIP, NOISE = 10, 1.0, 1.0
TURN = 0.1  # seconds of plain SGD in one turn, at least


class Images:
    """A task of square grey images."""

    num_classes = CLASSES
    vocabulary = standardisation = None  # neither texts nor scaled

    def __init__(self, side: int) -> None:
        self.input_shape = (1, side, side)

    def blank(self, count: int) -> Tensor:
        """Images of nothing."""
        return torch.zeros(count, *self.input_shape)


@contextmanager
def own_format(model: nn.Module) -> Iterator[None]:
    """Book-keeping as for a model that cannot bear channels_last."""
    bookkeeping._PLAIN.add(model)
    try:
        yield
    finally:
        bookkeeping._PLAIN.discard(model)


def trained(name: str, side: int, batch: int) -> tuple[nn.Module, ExampleLosses]:
    """What a client trains of a student, and its losses on made-up examples."""
    task = Images(side)
    student = build_model(compose_config([f"student={name}"]).student, task, seed=0)
    torch.manual_seed(0)
    inputs, module = torch.rand(batch, *task.input_shape), student
    if isinstance(student, FixedFrontEnd):
        with torch.no_grad():
            inputs, module = student.eval().features(inputs), student.head
    labels, taught = torch.arange(batch) % CLASSES, Answers(torch.randn(batch, CLASSES))
    return module.train(), TaughtExamples(build_loss(DistillOptions()), inputs, labels, taught)


def measure(name: str, side: int, batch: int, turns: int) -> dict[str, float]:
    """Milliseconds of plain SGD, the ratio of each case to it, and the distance of the sums."""
    model, losses = trained(name, side, batch)
    rows = torch.arange(batch)

    def of(engine: str) -> ClippedSum:
        with ENGINES[engine](model, losses, CLIP) as gradients:
            return gradients.clipped_sum(rows)

    def in_own_format() -> ClippedSum:
        with own_format(model):
            return of("bookkeeping")

    cases: dict[str, Callable[[], object]] = {
        "opacus": lambda: of("opacus"),
        "own format": in_own_format,
        "book-keeping": lambda: of("bookkeeping"),
        "noise": lambda: add_noise(of("bookkeeping"), NOISE, SecureRandomness()),
    }

    def plain() -> object:
        return plain_sum(model, losses, rows)

    times = max(1, round(TURN / max(seconds(plain, 3), 1e-6)))
    ratios: dict[str, list[float]] = {case: [] for case in cases}
    plain_seconds = []
    for _ in range(turns):
        for case, work in cases.items():
            ours, theirs = seconds(work, times), seconds(plain, times)
            ratios[case].append(ours / theirs)
            plain_seconds.append(theirs)
    found = {"plain_ms": 1e3 * statistics.median(plain_seconds)}
    found |= {case: statistics.median(ones) for case, ones in ratios.items()}
    sums = [torch.cat([one.flatten() for one in of(engine).value]) for engine in ENGINES]
    reference = sums[list(ENGINES).index("opacus")]
    found["distance"] = max(float((one - reference).norm() / reference.norm()) for one in sums)
    return found


def seconds(work: Callable[[], object], times: int) -> float:
    """CPU seconds of ``work``, after one for warmth."""
    work()
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


def main() -> None:
    """Run all students and batches, print the table, record it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--students", nargs="+", default=list(STUDENTS))
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--side", type=int, default=28, help="of the square grey images")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="keep it in docs/benchmarks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name in options.students:
        for batch in options.batches:
            found = measure(name, options.side, batch, options.turns)
            if not results:
                print(f"{'student, batch':<20}" + "".join(f"{key:>14}" for key in found))
            results[f"{name}, {batch}"] = found
            cells = "".join(f"{value:>14.3g}" for value in found.values())
            print(f"{f'{name}, {batch}':<20}{cells}", flush=True)
    if options.record:
        record_run("gradients", results)


if __name__ == "__main__":
    main()
