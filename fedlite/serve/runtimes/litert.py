"""LiteRT files (``.tflite``) in LiteRT with XNNPACK."""

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.serve.kind import (
    TOKEN_TYPES,
    Array,
    RuntimeKind,
    in_batches,
    native_output_silenced,
)


class LiteRT:
    """Integer inputs and outputs are scaled here: real = scale * (integer - zero point).

    A file whose ``shape_signature`` leaves the batch free is resized to what it is given.
    """

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with native_output_silenced():
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        self._rows = int(self._input["shape"][0])
        free = self._input["shape_signature"][0] == -1
        self.batch_size: int | None = None if free else self._rows
        self.input_shape: tuple[int, ...] = tuple(map(int, self._input["shape"][1:]))
        self.input_type = str(np.dtype(self._input["dtype"]))
        self.value_type = str(np.dtype(self._output["dtype"]))
        self.name = f"litert {importlib.metadata.version('ai-edge-litert')} cpu"

    def run(self, batch: Array) -> Array:
        if self.batch_size is not None:
            return in_batches(batch, self.batch_size, self._run_one)
        if len(batch) != self._rows:
            self._interpreter.resize_tensor_input(self._input["index"], batch.shape)
            self._interpreter.allocate_tensors()
            self._rows = len(batch)
        return self._run_one(batch)

    def _run_one(self, batch: Array) -> Array:
        values: NDArray[Any] = batch
        if self.input_type not in ("float32", *TOKEN_TYPES):
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


RUNTIME = RuntimeKind("LiteRT", ".tflite", "ai_edge_litert", "ai-edge-litert", LiteRT)
