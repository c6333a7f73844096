"""One log file for everybody's chatter; the terminal stays for the person."""

import logging
import warnings
from pathlib import Path

from fedlite.base.chatter import CHATTY

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


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
