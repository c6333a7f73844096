"""How long the parts of a round take on this machine."""

import time


class Clock:
    """Seconds of the parts of a round; ``total`` follows."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self.seconds = dict.fromkeys(("train", "aggregate", "evaluate", "checkpoint", "total"), 0.0)

    def lap(self, part: str) -> None:
        """Count the time since the last call to ``part``."""
        now = time.perf_counter()
        self.seconds[part] = now - self._last
        self.seconds["total"] = now - self._started
        self._last = now
