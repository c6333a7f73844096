"""Plain facts that stages hand each other: evaluations, rounds, measured models."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Evaluation:
    """A model on the server's test set. ``confusion[i][j]``: true class i predicted as j."""

    accuracy: float
    macro_f1: float
    loss: float
    confusion: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class RoundRecord:
    """All that a finished round tells the run's operator; nothing is computed from private data.

    ``epsilons`` holds the spent example-level epsilon of every client in client order (a function
    of the plan and of participation, never of the data); it is empty without that unit.
    ``client_level_epsilon`` is what all releases so far cost at the client level, ``clip`` the norm
    to which this round clipped every client's update; None without that unit. ``released`` is
    False where too few clients answered for the sum to be private. ``refusals`` counts the
    reasons that refusing clients gave.
    ``seconds`` has the keys ``train``, ``aggregate``, ``evaluate``, ``checkpoint`` and ``total``.
    ``teacher_bytes`` is the part of ``bytes_down`` that carried the teacher.
    """

    round: int
    evaluation: Evaluation | None
    clients_trained: int
    clients_refused: int
    clients_failed: int
    epsilons: list[float]
    bytes_down: int
    bytes_up: int
    seconds: dict[str, float]
    teacher_bytes: int = 0
    released: bool = True
    refusals: dict[str, int] = field(default_factory=dict)
    client_level_epsilon: float | None = None
    clip: float | None = None


@dataclass(frozen=True)
class Measurement:
    """An exported file, measured in the runtime that serves it.

    ``bytes`` is the file's size; latencies are milliseconds at batch 1; ``peak_memory_bytes`` is
    the peak resident set of a fresh process that holds runtime and model.
    """

    accuracy: float
    macro_f1: float
    parameters: int
    bytes: int
    latency_ms_p50: float
    latency_ms_p95: float
    peak_memory_bytes: int
    runtime: str
