"""What each format is called, how it can be quantized, and what its converter needs."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedlite.errors import UsageError


@dataclass(frozen=True)
class Format:
    """A kind of file.

    ``bits`` says for each value of ``compress.quantization`` that the format has how many bits
    weights may take. ``needs`` is the module that converts to it (None: fedlite's own
    dependencies do) and ``extra`` the extra of fedlite that brings it.
    """

    suffix: str
    bits: Mapping[str, tuple[int, ...]]
    needs: str | None = None
    extra: str | None = None


FORMATS: dict[str, Format] = {
    "onnx": Format(
        ".onnx",
        {"static": (8,), "qat": (8,), "dynamic": (8,), "weight_only": (8, 4), "fp16": (8,)},
    ),
    "litert": Format(
        ".tflite",
        {"static": (8,), "qat": (8,), "dynamic": (8,), "weight_only": (8, 4), "fp16": (8,)},
        needs="litert_torch",
        extra="litert",
    ),
    "executorch": Format(
        ".pte",
        {"static": (8,), "qat": (8,), "dynamic": (8,)},
        needs="executorch",
        extra="executorch",
    ),
    "coreml": Format(
        ".mlpackage", {"weight_only": (8, 4), "fp16": (8,)}, needs="coremltools", extra="coreml"
    ),
}
FORMAT_OF_SUFFIX: dict[str, str] = {form.suffix: name for name, form in FORMATS.items()}


def suffix_of(format: str) -> str:
    """The suffix of files of ``format``, with its dot.

    Raises:
        UsageError: no such format.
    """
    if format not in FORMATS:
        raise UsageError(f"compress.formats: no format {format}; formats: {', '.join(FORMATS)}")
    return FORMATS[format].suffix
