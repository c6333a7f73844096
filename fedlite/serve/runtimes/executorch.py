"""ExecuTorch files (``.pte``) with XNNPACK; its Python binding alone of all needs torch."""

import importlib.metadata
from pathlib import Path

import numpy as np

from fedlite.serve.kind import Array, RuntimeKind, as_taken, in_batches, native_output_silenced

INT64 = 4  # ExecuTorch's number of the type


class ExecuTorch:
    """One example a call, or as many as the file was made for."""

    value_type = "float32"

    def __init__(self, path: Path, threads: int) -> None:
        with native_output_silenced():
            import torch
            from executorch.runtime import Runtime as ExecuTorchRuntime

            torch.set_num_threads(threads)
            program = ExecuTorchRuntime.get().load_program(path)
            self._method = program.load_method("forward")
        self._from_numpy = torch.from_numpy
        taken = self._method.metadata.input_tensor_meta(0)
        shape = tuple(map(int, taken.sizes()))
        self.input_type = "int64" if taken.dtype() == INT64 else "float32"
        self.batch_size: int | None = shape[0]
        self.input_shape: tuple[int, ...] = shape[1:]
        self.name = f"executorch {importlib.metadata.version('executorch')} cpu"

    def run(self, batch: Array) -> Array:
        assert self.batch_size is not None
        return in_batches(batch, self.batch_size, self._run_one)

    def _run_one(self, batch: Array) -> Array:
        (found,) = self._method.execute(
            [self._from_numpy(np.ascontiguousarray(as_taken(batch, self.input_type)))]
        )
        logits: Array = found.numpy().copy()  # the runtime uses its memory again at the next call
        return logits


RUNTIME = RuntimeKind("ExecuTorch", ".pte", "executorch", "executorch", ExecuTorch)
