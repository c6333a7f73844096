"""ExecuTorch (``.pte``): the XNNPACK backend."""

from fedlite.compress.format import Format

FORMAT = Format(
    ".pte",
    {"static": (8,), "qat": (8,), "dynamic": (8,)},
    needs="executorch",
    extra="executorch",
)
