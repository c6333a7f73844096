"""The formats a student ships in, and writing a file of each."""

from fedlite.compress.formats.exporting import export_file, require_converters
from fedlite.compress.formats.table import FORMAT_OF_SUFFIX, FORMATS, Format, suffix_of

__all__ = [
    "FORMATS",
    "FORMAT_OF_SUFFIX",
    "Format",
    "export_file",
    "require_converters",
    "suffix_of",
]
