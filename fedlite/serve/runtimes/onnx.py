"""ONNX files in ONNX Runtime, on the CPU."""

from pathlib import Path

from fedlite.serve.kind import Array, RuntimeKind, as_taken

TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32"}


class OnnxRuntime:
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
        self.input_type = TYPES[described.type]
        self.input_shape: tuple[int, ...] = tuple(described.shape[1:])
        self.name = f"onnxruntime {onnxruntime.__version__} cpu"

    def run(self, batch: Array) -> Array:
        logits: Array = self._session.run(None, {self._input: as_taken(batch, self.input_type)})[0]
        return logits


RUNTIME = RuntimeKind("ONNX", ".onnx", "onnxruntime", "onnxruntime", OnnxRuntime)
