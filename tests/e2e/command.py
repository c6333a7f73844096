"""The command line in a process of its own, and its one-line errors."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from fedlite.cli.main import run

DEADLINE_SECONDS = 240
COMMAND = (sys.executable, "-c", "from fedlite.cli.main import main; main()")


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Start ``fedlite`` in another process, one that Ctrl-C reaches even where tests run behind &
    and ignore it."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(process: "subprocess.Popen[str]", happened: Callable[[], bool], *, what: str) -> None:
    """Poll until ``happened``; fail if the process ends first or the deadline passes."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not happened():
        assert process.poll() is None, f"ended before {what}: {process.communicate()}"
        assert time.monotonic() < deadline, f"no {what} in time"
        time.sleep(0.002)


def refusal(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """Run a command that must fail with ``code`` and one line on stderr; return the line."""
    capsys.readouterr()
    assert run(list(arguments)) == code, capsys.readouterr().err
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    (line,) = printed.err.splitlines()
    assert line.startswith("fedlite: ")
    return line
