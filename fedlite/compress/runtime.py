"""Opening and running exported files, each in its own runtime; light: numpy and that runtime.

A file's suffix says which runtime serves it: ``.onnx`` ONNX Runtime, ``.tflite`` LiteRT (XNNPACK),
``.pte`` ExecuTorch (XNNPACK), ``.mlpackage`` Core ML (macOS only). A runtime is imported when a
file of its kind is opened, so that a process which measures one holds no other.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedlite.errors import FedliteError, UsageError

Array = NDArray[np.float32]


class Runtime(Protocol):
    """An opened file that answers.

    ``name`` says which runtime, its version and device; ``input_shape`` is that of one example,
    without the batch; ``batch_size`` is the batch that the file was made for, None for any.
    ``value_type`` is what the file itself takes and answers, such as ``float32`` or ``int8``.
    """

    @property
    def name(self) -> str: ...

    @property
    def input_shape(self) -> tuple[int, ...]: ...

    @property
    def batch_size(self) -> int | None: ...

    @property
    def value_type(self) -> str: ...

    def run(self, batch: Array) -> Array:
        """Logits (n, classes) of normalised inputs (n, *input_shape), for any n from 1.

        A file with a batch of its own is called as often as that takes.
        """
        ...


def open_runtime(path: Path, threads: int = 1) -> Runtime:
    """The file at ``path`` in the runtime of its suffix, with ``threads`` threads.

    ExecuTorch takes its threads from the process's environment (``OMP_NUM_THREADS``) and Core ML
    decides for itself.

    Raises:
        UsageError: no such file, or a suffix that no runtime serves.
        FedliteError: the runtime is not installed or cannot run here, or the file is damaged.
    """
    if path.suffix not in _RUNTIMES:
        raise UsageError(f"{path}: no runtime for {path.suffix or 'it'}; give {_SUFFIXES}")
    if not path.exists():
        raise UsageError(f"{path}: no such file; expected an exported model ({path.suffix})")
    module, package, opener = _RUNTIMES[path.suffix]
    if path.suffix == ".mlpackage" and sys.platform != "darwin":
        raise FedliteError(f"{path}: Core ML runs on macOS only")
    if importlib.util.find_spec(module) is None:
        raise FedliteError(
            f"{path}: needs {package}, which is not installed: pip install {package}"
        )
    try:
        return opener(path, threads)
    except Exception as error:  # the runtimes' errors share no public base class
        raise FedliteError(f"{path}: not a model of this kind, or damaged") from error


def can_run(path: Path) -> bool:
    """Whether the runtime of this kind of file is installed here and runs on this machine."""
    if path.suffix not in _RUNTIMES or (path.suffix == ".mlpackage" and sys.platform != "darwin"):
        return False
    return importlib.util.find_spec(_RUNTIMES[path.suffix][0]) is not None


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


class _OnnxRuntime:
    """One thread pool within operators, one thread between them."""

    batch_size = None
    value_type = "float32"

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        described = self._session.get_inputs()[0]
        self._input = described.name
        self.input_shape: tuple[int, ...] = tuple(described.shape[1:])
        self.name = f"onnxruntime {onnxruntime.__version__} cpu"

    def run(self, batch: Array) -> Array:
        logits: Array = self._session.run(None, {self._input: batch})[0]
        return logits


class _LiteRT:
    """Integer inputs and outputs are scaled here: real = scale * (integer - zero point).

    A file whose ``shape_signature`` leaves the batch free is resized to what it is given.
    """

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with _native_output_silenced():
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        self._rows = int(self._input["shape"][0])
        free = self._input["shape_signature"][0] == -1
        self.batch_size: int | None = None if free else self._rows
        self.input_shape: tuple[int, ...] = tuple(map(int, self._input["shape"][1:]))
        self.value_type = str(np.dtype(self._input["dtype"]))
        self.name = f"litert {importlib.metadata.version('ai-edge-litert')} cpu"

    def run(self, batch: Array) -> Array:
        if self.batch_size is not None:
            return _in_batches(batch, self.batch_size, self._run_one)
        if len(batch) != self._rows:
            self._interpreter.resize_tensor_input(self._input["index"], batch.shape)
            self._interpreter.allocate_tensors()
            self._rows = len(batch)
        return self._run_one(batch)

    def _run_one(self, batch: Array) -> Array:
        values: NDArray[Any] = batch
        if self._input["dtype"] != np.float32:
            scale, zero = self._input["quantization"]
            limits = np.iinfo(self._input["dtype"])
            values = np.clip(np.rint(batch / np.float32(scale)) + zero, limits.min, limits.max)
        self._interpreter.set_tensor(
            self._input["index"], values.astype(self._input["dtype"], copy=False)
        )
        self._interpreter.invoke()
        found = self._interpreter.get_tensor(self._output["index"])
        if found.dtype != np.float32:
            scale, zero = self._output["quantization"]
            found = (found.astype(np.float32) - zero) * np.float32(scale)
        logits: Array = found
        return logits


class _ExecuTorch:
    value_type = "float32"

    def __init__(self, path: Path, threads: int) -> None:
        with _native_output_silenced():
            import torch
            from executorch.runtime import Runtime as ExecuTorchRuntime

            torch.set_num_threads(threads)
            program = ExecuTorchRuntime.get().load_program(path)
            self._method = program.load_method("forward")
        self._from_numpy = torch.from_numpy
        shape = tuple(map(int, self._method.metadata.input_tensor_meta(0).sizes()))
        self.batch_size: int | None = shape[0]
        self.input_shape: tuple[int, ...] = shape[1:]
        self.name = f"executorch {importlib.metadata.version('executorch')} cpu"

    def run(self, batch: Array) -> Array:
        assert self.batch_size is not None
        return _in_batches(batch, self.batch_size, self._run_one)

    def _run_one(self, batch: Array) -> Array:
        (found,) = self._method.execute([self._from_numpy(np.ascontiguousarray(batch))])
        logits: Array = found.numpy().copy()  # the runtime uses its memory again at the next call
        return logits


class _CoreML:
    batch_size: int | None = 1
    value_type = "float32"

    def __init__(self, path: Path, threads: int) -> None:
        import coremltools

        self._model = coremltools.models.MLModel(str(path))
        (described,) = self._model.get_spec().description.input
        self.input_shape: tuple[int, ...] = tuple(described.type.multiArrayType.shape[1:])
        self.name = f"coreml {coremltools.__version__}"

    def run(self, batch: Array) -> Array:
        return _in_batches(batch, 1, self._run_one)

    def _run_one(self, batch: Array) -> Array:
        logits: Array = np.asarray(self._model.predict({"input": batch})["logits"], np.float32)
        return logits


def _in_batches(inputs: Array, size: int, run: Callable[[Array], Array]) -> Array:
    """Rows of ``run`` over batches of exactly ``size``; the last one is filled up with zeros."""
    if len(inputs) == size:
        return run(inputs)
    found = []
    for start in range(0, len(inputs), size):
        batch = inputs[start : start + size]
        missing = size - len(batch)
        if missing:
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)])
        found.append(run(batch)[: size - missing])
    return np.concatenate(found)


@contextlib.contextmanager
def _native_output_silenced() -> Iterator[None]:
    """Let nothing through that libraries below Python write to the terminal's stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# Suffix: the module that must be importable, its package, and how to open a file.
_RUNTIMES: dict[str, tuple[str, str, Callable[[Path, int], Runtime]]] = {
    ".onnx": ("onnxruntime", "onnxruntime", _OnnxRuntime),
    ".tflite": ("ai_edge_litert", "ai-edge-litert", _LiteRT),
    ".pte": ("executorch", "executorch", _ExecuTorch),
    ".mlpackage": ("coremltools", "coremltools", _CoreML),
}
_SUFFIXES = ", ".join(_RUNTIMES)
