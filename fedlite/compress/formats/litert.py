"""LiteRT (``.tflite``): by litert-torch and ai-edge-quantizer."""

from fedlite.compress.format import Format

FORMAT = Format(
    ".tflite",
    {"static": (8,), "qat": (8,), "dynamic": (8,), "weight_only": (8, 4), "fp16": (8,)},
    needs="litert_torch",
    extra="litert",
)
