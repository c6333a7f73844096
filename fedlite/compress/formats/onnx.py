"""ONNX: by fedlite's own dependencies."""

from fedlite.compress.format import Format

FORMAT = Format(
    ".onnx",
    {"static": (8,), "qat": (8,), "dynamic": (8,), "weight_only": (8, 4), "fp16": (8,)},
)
