"""The memory that each worker has alone, at its peak."""

from collections.abc import Sequence

from fedlite.base.memory import peak_memory_bytes, shared_memory_bytes

WORTH_READING = 1.01  # growth of a peak after which shared pages are looked up again


class WorkerPeaks:
    """The largest peak seen of each worker, whatever process has its number by now.

    A worker is forked from one that has imported everything, and maps the run's examples: most of
    its resident set is other processes' as well, and would be counted once for each worker. So what
    it shares is taken off its peak, as it is when the peak is found to have grown.
    """

    def __init__(self) -> None:
        self._alone: dict[int, int] = {}  # bytes by number
        self._read: dict[int, int] = {}  # the peak at the last look, by process

    def look(self, processes: Sequence[int]) -> None:
        """Look at the workers' processes, given by their ids in the order of their numbers."""
        for number, process in enumerate(processes):
            peak = peak_memory_bytes(process)
            if peak is None or peak < WORTH_READING * self._read.get(process, 0):
                continue
            shared = shared_memory_bytes(process)
            if shared is not None:
                self._read[process] = peak
                self._alone[number] = max(self._alone.get(number, 0), peak - shared)

    def found(self) -> list[int]:
        """Bytes by worker number, of those of whom the system has told."""
        return [self._alone[number] for number in sorted(self._alone)]
