"""A shipped folder of the digits, the page made of it, and a headless browser."""

import functools
import http.server
import math
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedlite.base.errors import FedliteError
from fedlite.base.files import read_json
from fedlite.compress.bundle import write_bundle
from fedlite.compress.onnx.export import export_onnx
from fedlite.compress.onnx.quantize import quantize_onnx
from fedlite.compress.options import CompressOptions
from fedlite.data.types import Normalise, PublicData, Task
from fedlite.demo.facts import page_facts
from fedlite.demo.ort import cached_ort
from fedlite.demo.page import Sample, write_demo
from fedlite.demo.samples import choose_samples
from fedlite.demo.typical import typical_of
from fedlite.models.build import build_model
from fedlite.models.options import ModelOptions
from fedlite.serve.logmel import log_mel
from tests.compress.conftest import Digits, digits, student, student_path
from tests.int8 import is_exact
from tests.sounds import RATE
from tests.tasks import texts

__all__ = ["digits", "student", "student_path"]  # fixtures of the folder next door

CHROMIUM = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
CHROMIUM += " --disable-sync --no-first-run"


def report_of(task: Task, tests: int) -> dict[str, Any]:
    """The parts of a report that card and page read."""
    return {
        "schema_version": 1,
        "models": {
            "quantized_student": {
                "accuracy": 0.9,
                "latency_ms": {"p50": 0.02, "p95": 0.03},
                "runtime": "onnxruntime 1.31.1 cpu",
            }
        },
        "dataset": {"name": task.name, "public": 1000, "private": 0, "test": tests},
        "federation": {"num_clients": 20, "rounds": 20, "strategy": "fedavg"},
        "compression": {
            "ratio": 0.3,
            "sparsity": 0.0,
            "quantization": "static",
            "parameters_after": 9258,
        },
        "config": {"student": {"name": "cnn"}, "teacher": {"name": "wide_cnn"}},
        "privacy": {
            "private": True,
            "randomness": "secure",
            "protects": task.example,
            "units": [{"unit": "example", "epsilon_max": 7.991, "delta": 1e-5, "trust": "local"}],
        },
    }


def ship(directory: Path, model: Path, task: Task, tests: int = 797) -> Path:
    """A deployable folder with ``model`` in it, whose probabilities are calibrated."""
    entry = {
        "file": "student.onnx",
        "name": "quantized_student.onnx",
        "model": "quantized_student",
        "format": "onnx",
        "precision": "int8",
    }
    write_bundle(
        directory,
        {"student.onnx": model},
        [entry],
        task,
        report_of(task, tests),
        privacy_statement="Epsilon 8. <script>alert(1)</script>",
        metrics_table="| model | accuracy |\n| - | - |\n| cnn | 0.95 |",
        calibration={"student.onnx": {"temperature": 1.7, "examples": 90}},
    )
    return directory


def facts_of(bundle: Path, task: Task) -> dict[str, Any]:
    return page_facts(report_of(task, 797), read_json(bundle / "manifest.json")[0])


@pytest.fixture(scope="session")
def bundle(student_path: Path, digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In int8; where the processor's int8 products saturate, which the browser's do not, only the
    weights are."""
    folder = tmp_path_factory.mktemp("bundle")
    config = CompressOptions(quantization="static" if is_exact() else "weight_only")
    quantize_onnx(student_path, folder / "int8.onnx", config, digits.public)
    return ship(folder / "deploy", folder / "int8.onnx", digits.task)


@pytest.fixture(scope="session")
def samples(digits: Digits) -> list[Sample]:
    return choose_samples(digits.public, digits.task)


@pytest.fixture(scope="session")
def ort() -> Path:
    """The page's runtime, fetched once into the cache of this machine."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    try:
        return cached_ort(Path(os.environ.get("FEDLITE_CACHE", "~/.cache/fedlite")).expanduser())
    except FedliteError as error:
        pytest.skip(f"the npm registry cannot be reached: {error}")


@pytest.fixture(scope="session")
def site(
    bundle: Path,
    samples: list[Sample],
    digits: Digits,
    ort: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder of seven pages, and the bundles (``NAME_bundle``) of those that are not digits."""
    root = tmp_path_factory.mktemp("site")
    typical = typical_of([digits.public], digits.task)
    facts = facts_of(bundle, digits.task)
    write_demo(root / "digits", bundle, samples, facts, ort, typical=typical)
    for task in (SERIES, MAP, TABLE, SOUND):
        folder = root / f"{task.name}_bundle"
        ship(folder, _linear_student(task, tmp_path_factory.mktemp(task.name)), task)
        public = _noise(task)
        typical = typical_of([public], task)
        shown = choose_samples(public, task)
        write_demo(root / task.name, folder, shown, facts_of(folder, task), ort, typical=typical)
    for kind in ("words", "characters"):
        task, folder = texts(length=12, name=kind, kind=kind), root / f"{kind}_bundle"
        export_onnx(_text_student(task), task, root / f"{kind}.onnx", CompressOptions().opset)
        ship(folder, root / f"{kind}.onnx", task)
        shown = choose_samples(_noise(task), task)
        write_demo(root / kind, folder, shown, facts_of(folder, task), ort)
    return root


SERIES = Task(
    "series",
    (2, 16),
    ("up", "down", "flat"),
    Normalise(scale=1.0, mean=(1.5, -2.0), std=(0.5, 3.0)),
    "",
    "",
)
MAP = Task("map", (1, 6, 10), ("low", "high"), Normalise(1.0, (-7.0,), (2.0,)), "", "")
FRONT = log_mel(RATE, seconds=0.5, window=30, hop=20, bands=20, floor=-80)
SOUND = Task(
    "sound", FRONT.shape, ("high", "low"), Normalise(1.0, (-50.0,), (20.0,)), "", "", sound=FRONT
)
TABLE = Task(
    "table", (3,), ("no", "yes"), Normalise(1.0, (0.0, 50.0, 900.0), (1.0, 9.0, 80.0)), "", ""
)


def _noise(task: Task) -> PublicData:
    generator = torch.Generator().manual_seed(1)
    return PublicData(task.random(30, generator), torch.arange(30) % task.num_classes)


def _text_student(task: Task) -> nn.Module:
    return build_model(ModelOptions("text_bag", "fedlite.models.text.TextBag"), task, seed=0)


def _linear_student(task: Task, folder: Path) -> Path:
    torch.manual_seed(0)
    size = math.prod(task.input_shape)
    layers = (nn.Flatten(), nn.Linear(size, 8), nn.Tanh(), nn.Linear(8, task.num_classes))
    torch.onnx.export(
        nn.Sequential(*layers).eval(),
        (torch.zeros(1, *task.input_shape),),
        folder / "student.onnx",
        dynamo=True,
        input_names=["input"],
        output_names=["logits"],
        verbose=False,
        external_data=False,
    )
    return folder / "student.onnx"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def url(site: Path) -> Iterator[str]:
    """The address of the site on this machine."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("FEDLITE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium; name one in FEDLITE_CHROMIUM")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM.split())
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that must not complain."""
    problems: list[str] = []
    opened = browser.new_page()
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    opened.close()
    assert problems == []
