"""Measuring one exported file in a fresh process of its runtime; never imports torch itself.

python -m fedlite.serve.measure_worker MODEL --out FACTS.json --batch-sizes 1 32
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedlite.base import memory
from fedlite.base.energy import measured_joules
from fedlite.base.errors import FedliteError
from fedlite.serve.kind import TOKEN_TYPES, Array, Runtime
from fedlite.serve.runtime import logits_of, open_runtime

OPENINGS = 5  # of which the median counts
MAX_SECONDS = 10.0  # of timed calls at one batch size; a large model is called less often


def peak_memory_bytes() -> int:
    """Peak resident set of this process; ``ru_maxrss`` where the kernel shows nothing better."""
    if (peak := memory.peak_memory_bytes()) is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def latency_ms(call: Callable[[Array], Any], batch: Array, warmup: int, runs: int) -> Any:
    """``p50``, ``p95`` and ``min`` of the milliseconds that ``call(batch)`` takes."""
    for _ in range(warmup):
        call(batch)
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < runs and (not times or time.perf_counter() - begin < MAX_SECONDS):
        start = time.perf_counter()
        call(batch)
        times.append(1e3 * (time.perf_counter() - start))
    p50, p95 = np.percentile(times, [50, 95])
    return {"p50": float(p50), "p95": float(p95), "min": min(times)}


def cost_facts(open_model: Callable[[], Runtime], options: argparse.Namespace) -> dict[str, Any]:
    """Latency by batch size, load time, peak memory, joules and the runtime's name.

    Memory is read after the smallest batch, before anything else is done here. The file is opened
    again for the load time, so that importing the runtime does not count.

    Args:
        open_model: opens the file.
        options: ``batch_sizes``, ``warmup``, ``runs`` and ``threads``.
    """
    runtime = open_model()
    sizes = sorted(options.batch_sizes)
    found: dict[str, Any] = {}
    for size in sizes:
        batch = np.random.default_rng(0).standard_normal((size, *runtime.input_shape), np.float32)
        if runtime.input_type in TOKEN_TYPES:
            batch = np.abs(batch).astype(runtime.input_type)  # a few tokens that every table has
        found[str(size)] = latency_ms(runtime.run, batch, options.warmup, options.runs)
        if size == sizes[0]:
            peak_memory = peak_memory_bytes()
            joules = measured_joules(partial(runtime.run, batch))
    name = described(runtime, options.threads, sizes[-1])
    del runtime
    loads = []
    for _ in range(OPENINGS):
        start = time.perf_counter()
        open_model()
        loads.append(1e3 * (time.perf_counter() - start))
    return {
        "latency_ms": found,
        "load_ms": float(np.median(loads)),
        "peak_memory_bytes": peak_memory,
        "joules": None if joules is None else joules / sizes[0],
        "runtime": name,
    }


def described(runtime: Runtime, threads: int, largest_batch: int) -> str:
    """The runtime's name with what a reader of its figures must know."""
    words = [f"{threads} thread{'s' if threads > 1 else ''}"]
    if runtime.batch_size is not None and runtime.batch_size < largest_batch:
        words.append(f"batches over {runtime.batch_size} looped")
    if "torch" in sys.modules and not runtime.name.startswith("torch"):
        words.append("memory includes torch")  # which its Python binding alone needs
    return ", ".join([runtime.name, *words])


def parser() -> argparse.ArgumentParser:
    """The options that all measuring processes share."""
    found = argparse.ArgumentParser()
    found.add_argument("model", type=Path)
    found.add_argument("--out", type=Path, required=True, help="JSON, written")
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--warmup", type=int, default=20)
    found.add_argument("--runs", type=int, default=200)
    found.add_argument("--batch-sizes", type=int, nargs="+", default=[1])
    return found


def main() -> None:
    """Measure a file; with ``--inputs`` also write its logits of them to ``--logits``."""
    own = parser()
    own.add_argument("--inputs", type=Path, help="(n, *input_shape), .npy")
    own.add_argument("--logits", type=Path, help=".npy, written")
    options = own.parse_args()
    # Read by runtimes when they are imported, which is when the first file is opened.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)

    def open_model() -> Runtime:
        return open_runtime(options.model, options.threads)

    try:
        facts = cost_facts(open_model, options)
        if options.inputs is not None:
            np.save(options.logits, logits_of(open_model(), np.load(options.inputs)))
    except FedliteError as error:
        sys.exit(str(error))
    options.out.write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
