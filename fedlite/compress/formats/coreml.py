"""Core ML (``.mlpackage``): by coremltools; runs on Apple's systems alone."""

from fedlite.compress.format import Format

FORMAT = Format(
    ".mlpackage", {"weight_only": (8, 4), "fp16": (8,)}, needs="coremltools", extra="coreml"
)
