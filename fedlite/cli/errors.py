"""Every foreseeable error as one line on stderr, with an exit code."""

import errno
import logging
import sys
from collections.abc import Callable

from fedlite.base.errors import FedliteError

log = logging.getLogger(__name__)


def say(line: str, code: int) -> int:
    """Print one line of error on stderr and hand back the exit code."""
    print(f"fedlite: {' '.join(line.split())}", file=sys.stderr, flush=True)
    return code


def guarded(work: Callable[[], int]) -> int:
    """What ``work`` answers: 0 done, 1 failed, 2 wrong usage; no error passes."""
    try:
        return work()
    except KeyboardInterrupt:
        return say("interrupted; finished stages and rounds are kept, run.resume=true goes on", 1)
    except FedliteError as error:
        return say(str(error), error.exit_code)
    except OSError as error:
        log.exception("operating system error")
        where = f"{error.filename}: " if error.filename else ""
        hint = "; free some space" if error.errno == errno.ENOSPC else ""
        return say(f"{where}{error.strerror or error}{hint}", 1)
    except Exception as error:  # a bug: one line for the person, all of it in the log
        log.exception("unexpected error")
        return say(f"unexpected {type(error).__name__}: {error} (traceback: {_log_path()})", 1)


def _log_path() -> str:
    handlers = logging.getLogger().handlers
    files = [h.baseFilename for h in handlers if isinstance(h, logging.FileHandler)]
    return files[0] if files else "not written: the run had not started"
