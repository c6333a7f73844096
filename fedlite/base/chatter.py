"""Libraries that say more than a person wants to read."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

CHATTY = ("flwr", "ray", "opacus", "absl", "torch.onnx", "onnxscript", "httpx", "datasets")


@contextmanager
def without_chatter() -> Iterator[None]:
    """Leave unsaid what libraries say below an error; handlers and levels stay the caller's."""

    def severe(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    libraries = [logging.getLogger(name) for name in CHATTY]
    for library in libraries:
        library.addFilter(severe)
    try:
        yield
    finally:
        for library in libraries:
            library.removeFilter(severe)
