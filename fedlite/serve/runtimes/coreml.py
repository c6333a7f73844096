"""Core ML packages (``.mlpackage``), on macOS."""

from pathlib import Path

import numpy as np

from fedlite.serve.kind import Array, RuntimeKind, in_batches


class CoreML:
    """One example a call."""

    batch_size: int | None = 1
    value_type = input_type = "float32"

    def __init__(self, path: Path, threads: int) -> None:
        import coremltools

        self._model = coremltools.models.MLModel(str(path))
        (described,) = self._model.get_spec().description.input
        self.input_shape: tuple[int, ...] = tuple(described.type.multiArrayType.shape[1:])
        self.name = f"coreml {coremltools.__version__}"

    def run(self, batch: Array) -> Array:
        return in_batches(batch, 1, self._run_one)

    def _run_one(self, batch: Array) -> Array:
        logits: Array = np.asarray(self._model.predict({"input": batch})["logits"], np.float32)
        return logits


RUNTIME = RuntimeKind(
    "Core ML", ".mlpackage", "coremltools", "coremltools", CoreML, "darwin", "macOS only"
)
