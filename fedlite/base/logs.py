"""One log file for everybody's chatter; the terminal stays for the person."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
CHATTY = ("flwr", "ray", "opacus", "absl", "torch.onnx", "onnxscript", "httpx", "datasets")


def route_logs(log_file: Path | None) -> None:
    """Send logs and warnings of fedlite and all libraries to ``log_file`` (None: nowhere)."""
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default")
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    handler = logging.NullHandler() if log_file is None else logging.FileHandler(log_file)
    handler.setFormatter(logging.Formatter(FORMAT))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in CHATTY:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


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
