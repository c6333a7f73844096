"""What processes take of memory, where the system tells it."""

import os
import subprocess
import sys

import pytest

from fedlite.base.memory import parent_of, peak_memory_bytes, shared_memory_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

MB = 1_000_000
TAKES = """
bytearray(200_000_000)  # gone at once
print("ready", flush=True)
input()
"""


def test_a_peak_is_of_its_process_alone_and_stays() -> None:
    own = bytearray(300 * MB)  # ru_maxrss of the child below would begin with it
    command = [sys.executable, "-c", TAKES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        peak, shared = peak_memory_bytes(child.pid), shared_memory_bytes(child.pid)
        assert peak is not None
        assert 200 * MB < peak < 280 * MB
        assert shared is not None
        assert 0 < shared < 50 * MB, "libraries"
        assert parent_of(child.pid) == os.getpid()
        child.communicate(b"\n")
    assert (peak_memory_bytes() or 0) > len(own)


def test_nothing_is_said_of_a_process_that_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    found = [look(child.pid) for look in (peak_memory_bytes, shared_memory_bytes, parent_of)]
    assert found == [None, None, None]
