"""``fedlite demo``: the page of a run, with a few public examples to choose from."""

import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import torch
from rich.console import Console

from fedlite.compose import compose_config
from fedlite.compress.predict import DEFAULT
from fedlite.compress.verify import MANIFEST, verify_bundle
from fedlite.data import load_splits
from fedlite.data.types import PublicData, Task
from fedlite.demo.facts import page_facts
from fedlite.demo.ort import cached_ort, given_ort
from fedlite.demo.page import Sample, write_demo
from fedlite.distill.public import require_public
from fedlite.errors import FedliteError, UsageError
from fedlite.files import read_json
from fedlite.tracking.report import load_report

MOST_SAMPLES = 12


def run_demo(overrides: Sequence[str], output: Path | None, ort: Path | None) -> None:
    """Write the page of the run in ``run.dir`` and say how to open it.

    Args:
        overrides: the options of the run, ``run.dir`` among them.
        output: the folder to write; None is ``demo`` in the run directory.
        ort: an unpacked package with the page's runtime; None fetches it into the cache.

    Raises:
        UsageError: the run is not finished, or holds no ONNX model to show.
        FedliteError: the bundle is damaged, or the runtime cannot be fetched.
    """
    config = compose_config(overrides)
    run_dir = Path(config.run.dir)
    bundle, output = run_dir / "deploy", output or run_dir / "demo"
    if not (run_dir / "report.json").is_file() or not bundle.is_dir():
        raise UsageError(
            f"run.dir={run_dir}: nothing ships there yet; finish the run with"
            " `fedlite simulate run.dir=DIR run.resume=true`"
        )
    if faults := verify_bundle(bundle).faults:
        raise FedliteError(f"{bundle}: {faults[0]}; write it anew with `fedlite report`")
    entries = [entry for entry in read_json(bundle / MANIFEST) if entry["file"] == DEFAULT]
    if not entries:
        raise UsageError(f"{bundle}: holds no {DEFAULT}; add onnx to compress.formats")
    splits = load_splits(
        config.dataset, config.partition, config.federation.num_clients, config.seed
    )
    samples = choose_samples(splits.public_validation, splits.task)
    facts = page_facts(load_report(run_dir / "report.json"), entries[0])
    runtime = cached_ort(_cache()) if ort is None else given_ort(ort)
    write_demo(output, bundle, samples, facts, runtime)
    console = Console(highlight=False)
    console.print(f"demo  {output}", soft_wrap=True)
    console.print(
        f"open  python -m http.server --directory {quote(str(output))} 8000,"
        " then http://localhost:8000",
        soft_wrap=True,
    )


def choose_samples(public: PublicData, task: Task) -> list[Sample]:
    """The first public example of each class, of the first twelve classes, as raw values.

    Values that were whole numbers before normalisation are whole again.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`: the page shows its samples to anybody.
    """
    require_public(public)
    shape = (-1,) + (1,) * (len(task.input_shape) - 1)
    mean, std = (torch.tensor(v, dtype=torch.float64).reshape(shape) for v in (task.mean, task.std))
    samples = []
    for label in range(min(task.num_classes, MOST_SAMPLES)):
        rows = (public.labels == label).nonzero()
        if not len(rows):
            continue
        raw = (public.inputs[int(rows[0])].double() * std + mean) * task.scale
        if float((raw - raw.round()).abs().max()) < 1e-2:
            values: list[float] = raw.round().int().flatten().tolist()
        else:
            values = [float(f"{value:.7g}") for value in raw.flatten().tolist()]
        samples.append(Sample(task.class_names[label], values))
    return samples


def _cache() -> Path:
    return Path(os.environ.get("FEDLITE_CACHE") or "~/.cache/fedlite").expanduser()
