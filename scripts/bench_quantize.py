"""Size, speed and likeness of quantized ONNX files against fp32 in ONNX Runtime, alternated.

    python scripts/bench_quantize.py [--runs 300] [--size 28] [--batches 1 32] [--threads 1]

Networks as they are built (untrained), on random inputs: the cnn, the mobilenet, and the mobilenet
at width 1 and 2 without norms, as it is once they are folded. Every file of a network answers in
turn, so that a busy machine slows all alike; the ratio of the quickest runs is given, and the
signal-to-noise ratio of the logits against fp32. With --record the figures are kept in
docs/benchmarks.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from record import record_run
from torch import nn

from fedlite.compress.onnx.export import export_onnx
from fedlite.compress.onnx.quantize import quantize_onnx
from fedlite.compress.options import CompressOptions
from fedlite.data.types import Normalise, PublicData, Task
from fedlite.models.build import build_model, count_parameters
from fedlite.models.options import ModelOptions
from fedlite.serve.kind import Array, Runtime
from fedlite.serve.runtime import logits_of, open_runtime

CLASSES = 10
CNN = ModelOptions("cnn", "fedlite.models.cnn.CNN")
MODES = {
    "fp32": CompressOptions(quantization="none"),
    "static": CompressOptions(quantization="static"),
    "static, per tensor": CompressOptions(quantization="static", per_channel=False),
    "dynamic": CompressOptions(quantization="dynamic"),
    "weight_only 8": CompressOptions(quantization="weight_only"),
    "weight_only 4": CompressOptions(quantization="weight_only", bits=4),
    "fp16": CompressOptions(quantization="fp16"),
}


def mobilenet(**options: object) -> ModelOptions:
    """The mobilenet with ``options``."""
    return ModelOptions("mobilenet", "fedlite.models.mobilenet.MobileNet", options)


NETWORKS = {
    "cnn": CNN,
    "mobilenet": mobilenet(),
    "mobilenet without norms": mobilenet(norm=None),
    "mobilenet of width 2 without norms": mobilenet(norm=None, width=2.0),
}


def best_seconds(files: dict[str, Runtime], inputs: Array, runs: int) -> dict[str, float]:
    """The quickest of ``runs`` runs of each file, in turn."""
    best = dict.fromkeys(files, float("inf"))
    for _ in range(runs):
        for name, runtime in files.items():
            started = time.perf_counter()
            runtime.run(inputs)
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def measure(
    network: nn.Module, task: Task, options: argparse.Namespace, folder: Path
) -> dict[str, dict[str, float]]:
    """Print one line for each mode; the figures by mode."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, *task.input_shape, generator=generator)
    public = PublicData(inputs, torch.zeros(len(inputs), dtype=torch.int64))
    export_onnx(network, task, folder / "source.onnx", CompressOptions().opset)
    paths = {name: folder / f"{name}.onnx" for name in MODES}
    for name, config in MODES.items():
        quantize_onnx(folder / "source.onnx", paths[name], config, public)
    files = {name: open_runtime(path, options.threads) for name, path in paths.items()}
    wanted = logits_of(files["fp32"], inputs.numpy())
    seconds = {
        batch: best_seconds(files, inputs[:batch].numpy(), max(5, options.runs // batch))
        for batch in options.batches
    }
    full = paths["fp32"].stat().st_size
    figures = {}
    for name, path in paths.items():
        noise = np.square(logits_of(files[name], inputs.numpy()) - wanted).sum()
        snr_db = 10 * np.log10(np.square(wanted).sum() / max(noise, 1e-20))
        speed = "".join(
            f" | batch {batch}: {1e3 * found[name]:8.4f} ms {found['fp32'] / found[name]:5.2f}x"
            for batch, found in seconds.items()
        )
        size = path.stat().st_size
        print(f"  {name:18} {size:8} bytes {full / size:5.2f}x{speed} | {snr_db:5.1f} dB")
        times = {f"ms_batch_{batch}": 1e3 * found[name] for batch, found in seconds.items()}
        figures[name] = {"bytes": size, **times, "snr_db": float(snr_db)}
    return figures


def main() -> None:
    """Measure every network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300, help="of batch 1; fewer of larger ones")
    parser.add_argument("--size", type=int, default=28, help="of the square grey images")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="keep it in docs/benchmarks")
    options = parser.parse_args()
    shape = (1, options.size, options.size)
    task = Task(
        name="random",
        input_shape=shape,
        class_names=tuple(str(i) for i in range(CLASSES)),
        preprocessing=Normalise(scale=1.0, mean=(0.0,), std=(1.0,)),
        metric="accuracy",
        example="one random image",
    )
    figures = {}
    for name, config in NETWORKS.items():
        network = build_model(config, task, seed=0).eval()
        print(f"{name}, {count_parameters(network)} parameters")
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = measure(network, task, options, Path(folder))
    if options.record:
        record_run("quantize", figures)


if __name__ == "__main__":
    main()
