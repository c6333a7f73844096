"""Opening and running exported files, each in its own runtime; light: numpy and that runtime.

A file's suffix says which runtime serves it: ``.onnx`` ONNX Runtime, ``.tflite`` LiteRT (XNNPACK),
``.pte`` ExecuTorch (XNNPACK), ``.mlpackage`` Core ML (macOS only).
"""

from pathlib import Path

import numpy as np

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.named import Named
from fedlite.serve.kind import Array, Runtime, RuntimeKind

RUNTIMES = Named("runtime", "fedlite.serve.runtimes", "RUNTIME", open=False)


def kinds() -> dict[str, RuntimeKind]:
    """Every kind of runtime by the name of its format."""
    return {name: RUNTIMES.find(name) for name in RUNTIMES.names()}


def kind_of(path: Path) -> RuntimeKind | None:
    """The kind of runtime that serves files with this suffix; None if there is none."""
    return next((kind for kind in kinds().values() if kind.suffix == path.suffix), None)


def open_runtime(path: Path, threads: int = 1) -> Runtime:
    """The file at ``path`` in the runtime of its suffix, with ``threads`` threads.

    ExecuTorch takes its threads from the process's environment (``OMP_NUM_THREADS``) and Core ML
    decides for itself.

    Raises:
        UsageError: no such file, or a suffix that no runtime serves.
        FedliteError: the runtime is not installed or cannot run here, or the file is damaged.
    """
    kind = kind_of(path)
    if kind is None:
        suffixes = ", ".join(one.suffix for one in kinds().values())
        raise UsageError(f"{path}: no runtime for {path.suffix or 'it'}; give {suffixes}")
    if not path.exists():
        raise UsageError(f"{path}: no such file; expected an exported model ({path.suffix})")
    if not kind.runs_here:
        raise FedliteError(f"{path}: {kind.label} runs on {kind.system}")
    if not kind.installed:
        raise FedliteError(
            f"{path}: needs {kind.package}, which is not installed: pip install {kind.package}"
        )
    try:
        return kind.open(path, threads)
    except Exception as error:  # the runtimes' errors share no public base class
        raise FedliteError(f"{path}: not a model of this kind, or damaged") from error


def runs_here(path: Path) -> bool:
    """Whether the runtime of this kind of file is installed here and runs on this machine."""
    kind = kind_of(path)
    return kind is not None and kind.runs_here and kind.installed


def logits_of(runtime: Runtime, inputs: Array, batch_size: int = 256) -> Array:
    """Logits (n, classes) of normalised ``inputs`` (n, *input_shape), batch by batch."""
    return np.concatenate(
        [runtime.run(inputs[i : i + batch_size]) for i in range(0, len(inputs), batch_size)]
    )


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder (a ``.mlpackage`` is one)."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
