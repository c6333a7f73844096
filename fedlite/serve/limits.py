"""How much a server takes: rows and bytes of a request, rows in a minute, requests at once."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """``max_rows`` of a request, ``rows_per_minute`` of all together, requests ``at_once``, and
    ``seconds`` in which a body has to arrive."""

    max_rows: int = 256
    rows_per_minute: int = 6000
    at_once: int = 16
    seconds: float = 10.0


class Bucket:
    """A token bucket: ``per_minute`` rows refill it evenly, and it holds those of a minute.

    Args:
        per_minute: rows.
        now: seconds of a clock that only goes forward.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self._capacity, self._left, self._filled = float(per_minute), float(per_minute), now

    def take(self, rows: int, now: float) -> int:
        """Take so many rows out; 0 where they were there, else the seconds until they are."""
        rate = self._capacity / 60
        self._left = min(self._capacity, self._left + rate * (now - self._filled))
        self._filled = now
        if rows <= self._left:
            self._left -= rows
            return 0
        return max(1, math.ceil((rows - self._left) / rate))
