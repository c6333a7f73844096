"""Every foreseeable error as one line on stderr, with an exit code."""

import errno
import logging
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

from fedlite.base.errors import FedliteError

log = logging.getLogger(__name__)


def say(line: str, code: int) -> int:
    """Print one line of error on stderr and hand back the exit code."""
    one = " ".join(part.strip() for part in line.splitlines())
    print(f"fedlite: {one}", file=sys.stderr, flush=True)
    return code


def guarded(work: Callable[[], int]) -> int:
    """What ``work`` answers: 0 done, 1 failed, 2 wrong usage; no error passes.

    Where who reads the output has left (``fedlite ... | head``), nothing is said.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return 1
        return say(*explained(error))


def _reader_left() -> bool:
    """Whether nobody reads standard output any more; what is left of it then goes nowhere."""
    asked = select.poll()
    asked.register(sys.stdout, select.POLLOUT)
    left = any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))
    if left:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return left


def explained(error: BaseException) -> tuple[str, int]:
    """An error in one line, and the exit code; what is a bug is in the log with its traceback."""
    match error:
        case KeyboardInterrupt():
            line, code = "interrupted", 1
        case FedliteError():
            line, code = str(error), error.exit_code
        case OSError():
            log.error("operating system error", exc_info=error)
            where = f"{error.filename}: " if error.filename else ""
            hint = "; free some space" if error.errno == errno.ENOSPC else ""
            line, code = f"{where}{error.strerror or error}{hint}", 1
        case _:  # one line for the person, all of it in the log
            log.error("unexpected error", exc_info=error)
            line = f"unexpected {type(error).__name__}: {error} (traceback: {_log_path()})"
            code = 1
    # What was noted on its way: where the run lies, how it goes on.
    return "; ".join([line, *getattr(error, "__notes__", [])]), code


def _log_path() -> str:
    handlers = logging.getLogger().handlers
    files = [h.baseFilename for h in handlers if isinstance(h, logging.FileHandler)]
    return files[0] if files else "not written: the run had not started"
