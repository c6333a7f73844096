"""Timing one exported file in a fresh process: prints a line of JSON; never imports torch.

python -m fedlite.compress.measure_worker MODEL --threads 1 --warmup 20 --runs 200
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from fedlite.compress.runtime import open_session
from fedlite.errors import FedliteError


def peak_memory_bytes() -> int:
    """Peak resident set of this process.

    Linux hands ``ru_maxrss`` of the starting process down to the process it starts, so the high
    water mark of this process alone is read where the kernel shows it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Time single-example runs and print latencies (milliseconds) and peak memory (bytes)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    try:
        session = open_session(options.model, options.threads)
    except FedliteError as error:
        sys.exit(str(error))
    described = session.get_inputs()[0]
    shape = (1, *described.shape[1:])
    feed = {described.name: np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}
    for _ in range(options.warmup):
        session.run(None, feed)
    times = np.empty(options.runs)
    for run in range(options.runs):
        start = time.perf_counter()
        session.run(None, feed)
        times[run] = time.perf_counter() - start
    p50, p95 = np.percentile(times * 1e3, [50, 95])
    facts = {
        "latency_ms_p50": float(p50),
        "latency_ms_p95": float(p95),
        "peak_memory_bytes": peak_memory_bytes(),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
