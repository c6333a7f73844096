"""What processes take of this machine's memory, as Linux tells it in ``/proc``."""

from pathlib import Path

THIS_PROCESS = "self"


def peak_memory_bytes(process: int | str = THIS_PROCESS) -> int | None:
    """The peak resident set of a process, by its id; pages that it shares count in full.

    Unlike ``ru_maxrss``, which Linux hands down to the process that is started, this is of the
    process alone. None where the system does not tell, and of a process that has ended.
    """
    return _bytes_of(process, "status", "VmHWM")


def shared_memory_bytes(process: int | str = THIS_PROCESS) -> int | None:
    """What of a process's resident set others have in theirs as well; None as for the peak.

    The kernel looks at every page, which takes milliseconds.
    """
    return _bytes_of(process, "smaps_rollup", "Shared_Clean", "Shared_Dirty")


def parent_of(process: int | str) -> int | None:
    """The id of the process that a process is a child of; None as for the peak."""
    parent = _fields(process, "status").get("PPid")
    return None if parent is None else int(parent)


def _bytes_of(process: int | str, file: str, *names: str) -> int | None:
    found = _fields(process, file)
    if not all(name in found for name in names):
        return None
    return sum(int(found[name].split()[0]) * 1024 for name in names)


def _fields(process: int | str, file: str) -> dict[str, str]:
    """The lines ``name: value`` of a file in ``/proc``; none where it cannot be read."""
    try:
        lines = Path(f"/proc/{process}/{file}").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}
