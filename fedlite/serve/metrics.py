"""What a server counts of itself, in Prometheus' text format; nothing of any input."""

from collections import Counter
from collections.abc import Iterator

BOUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # seconds


class Metrics:
    """Counters of requests by status, of rows, and how long the model took for a request."""

    def __init__(self) -> None:
        self._requests: Counter[int] = Counter()
        self._buckets: Counter[float] = Counter()
        self._rows, self._answered, self._seconds = 0, 0, 0.0

    def request(self, status: int) -> None:
        """A request ended."""
        self._requests[status] += 1

    def answered(self, rows: int, seconds: float) -> None:
        """The model answered so many rows."""
        self._rows += rows
        self._answered += 1
        self._seconds += seconds
        self._buckets.update(bound for bound in BOUNDS if seconds <= bound)

    def text(self) -> str:
        """All of it, in version 0.0.4 of the format."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield "# HELP fedlite_requests_total Requests by HTTP status."
        yield "# TYPE fedlite_requests_total counter"
        for status, count in sorted(self._requests.items()):
            yield f'fedlite_requests_total{{status="{status}"}} {count}'
        yield "# HELP fedlite_rows_total Inputs that the teacher answered."
        yield "# TYPE fedlite_rows_total counter"
        yield f"fedlite_rows_total {self._rows}"
        yield "# HELP fedlite_answer_seconds Time of the model for a request."
        yield "# TYPE fedlite_answer_seconds histogram"
        for bound in BOUNDS:
            yield f'fedlite_answer_seconds_bucket{{le="{bound:g}"}} {self._buckets[bound]}'
        yield f'fedlite_answer_seconds_bucket{{le="+Inf"}} {self._answered}'
        yield f"fedlite_answer_seconds_sum {self._seconds:.6f}"
        yield f"fedlite_answer_seconds_count {self._answered}"
