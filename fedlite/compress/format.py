"""What a format is: its suffix, how it can be quantized, and what its converter needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedlite.compress.options import FORMATS


@dataclass(frozen=True)
class Format:
    """A kind of file; the modules of ``compress/formats`` hold one each.

    ``bits`` says for each value of ``compress.quantization`` that the format has how many bits
    weights may take. ``needs`` is the module that converts to it (None: fedlite's own
    dependencies do) and ``extra`` the extra of fedlite that brings it. The converter is the module
    of the format's name in ``compress/converters``, run in a process of its own.
    """

    suffix: str
    bits: Mapping[str, tuple[int, ...]]
    needs: str | None = None
    extra: str | None = None


def format_of(name: str) -> Format:
    """The format called ``name``.

    Raises:
        UsageError: no such format.
    """
    found: Format = FORMATS.find(name)
    return found


def suffix_of(name: str) -> str:
    """The suffix of files of a format, with its dot.

    Raises:
        UsageError: no such format.
    """
    return format_of(name).suffix


def name_of(path: Path) -> str | None:
    """The name of the format that a file's suffix stands for; None for no format's."""
    return next((name for name in FORMATS.names() if suffix_of(name) == path.suffix), None)
