"""The memory that a federation's processes took: section, words and numbers."""

from fedlite.base.records import PeakMemory
from fedlite.report.sections import MemorySection
from fedlite.report.words import human_bytes


def memory_section(peak: PeakMemory) -> MemorySection | None:
    """The section of what was seen; None where the system does not tell."""
    if peak.process is None:
        return None
    section: MemorySection = {"process_bytes": peak.process}
    if peak.fork_server is not None and peak.workers:
        section |= {"fork_server_bytes": peak.fork_server, "worker_bytes": peak.workers}
    return section


def memory_rows(section: MemorySection) -> dict[str, str]:
    """What each kind of process took, by its name."""
    rows = {"the run's process": human_bytes(section["process_bytes"])}
    if workers := section.get("worker_bytes"):
        rows["the process that workers are forked from"] = human_bytes(section["fork_server_bytes"])
        rows["each worker without what it shares"] = (
            f"{human_bytes(max(workers))} (at most, of {len(workers)})"
        )
    return rows


def memory_sentence(section: MemorySection) -> str:
    """The same in one line."""
    rows = memory_rows(section).items()
    return "peak memory: " + "; ".join(f"{name} {taken}" for name, taken in rows)


def memory_numbers(section: MemorySection) -> dict[str, int]:
    """The same as numbers of bytes; of the workers the largest."""
    numbers = {"process": section["process_bytes"]}
    if workers := section.get("worker_bytes"):
        numbers |= {"fork_server": section["fork_server_bytes"], "worker": max(workers)}
    return numbers
