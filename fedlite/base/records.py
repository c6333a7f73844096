"""Plain facts that stages hand each other: evaluations, rounds, measured models."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # every start of the command comes by here
    import numpy as np
    from numpy.typing import NDArray

ModelKey = Literal[
    "teacher",
    "public_student",
    "federated_student",
    "folded_student",
    "pruned_student",
    "quantized_student",
]
"""What the models of a run are called, in the order of the pipeline: distilled on public data only,
federated, its norms exchanged for ones that fold, pruned, pruned and quantized."""

Metric = Literal["accuracy", "macro_f1"]
"""What models are judged by (``dataset.metric``)."""

METRIC_NAMES: dict[Metric, str] = {"accuracy": "accuracy", "macro_f1": "macro-F1"}

StudentKey = Literal["public_student", "federated_student"]
"""The students at full width, one of which is compressed and ships."""


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
    ``simulated`` is empty without a fleet. Else it has ``seconds`` of the round and
    ``clock_seconds`` of all up to it, ``joules`` of all clients together (an estimate), and how
    many clients were ``asked``, were ``away``, ``left`` in mid-round, and stayed but were
    ``not_counted`` (late, refused or failed). Where the cohort is a secret, all but seconds are
    expectations over its draw. On an asynchronous fleet joules and counts are of those asked in
    the round, and ``staleness`` is the mean number of rounds that the counted replies missed.
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
    simulated: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class JoinRecord:
    """What the join after a round made of one class of students.

    ``before`` and ``after`` are accuracies on public validation examples, None where there are
    none. ``taken`` is False where the class went on with its own student.
    """

    round: int
    class_name: str
    taken: bool
    before: float | None
    after: float | None


@dataclass(frozen=True)
class PeakMemory:
    """The most bytes of memory that the processes of a federation have had so far.

    ``process`` is the run's own, ``fork_server`` the one that its workers are forked from, each
    with all pages that it shares with others. ``workers`` are, by their number, what each had
    alone: its peak without the pages that it shared then, of imports and of the run's examples. So
    n workers fit into ``process + fork_server + n * max(workers)``, where libraries count twice.
    None and empty where the system does not tell, or there are no workers.
    """

    process: int | None
    fork_server: int | None = None
    workers: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call of the runtime with one batch."""

    p50: float
    p95: float
    min: float


@dataclass(frozen=True)
class Cost:
    """What an exported file costs, measured in a fresh process that holds runtime and model.

    ``latency_ms`` is by batch size (as text: JSON has no other keys). ``load_ms`` is opening the
    file to a runtime that can be called; ``peak_memory_bytes`` the peak resident set. ``joules``
    are of one example at the smallest batch; None where the machine does not count them
    (:mod:`fedlite.base.energy`).
    """

    bytes: int
    gzip_bytes: int
    latency_ms: dict[str, Latency]
    load_ms: float
    peak_memory_bytes: int
    runtime: str
    joules: float | None = None


@dataclass(frozen=True)
class Measurement:
    """Quality on the test set and cost of an exported file, in the runtime that serves it.

    ``logits`` (n, classes) are its answers on the test set.
    """

    accuracy: float
    macro_f1: float
    parameters: int
    cost: Cost
    logits: "NDArray[np.float32] | None" = field(default=None, repr=False, compare=False)


class Scored(Protocol):
    """What was evaluated."""

    @property
    def accuracy(self) -> float:
        """Share of the examples that are answered right."""

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes."""


def score_of(found: Scored, metric: Metric) -> float:
    """What ``found`` is judged by."""
    return found.accuracy if metric == "accuracy" else found.macro_f1


@dataclass(frozen=True)
class Artefact:
    """A file that could ship, and how it was judged on public data before it was measured.

    ``name`` is unique in a run, such as ``quantized_student.litert``; ``model`` the key of the
    student it was made of (one at full width, ``pruned_student``, ``quantized_student``);
    ``file`` lies in the folder of models. ``snr_db`` and ``agreement`` compare its logits with
    those of the torch model it was exported from; ``public_accuracy`` is its accuracy on public
    data and ``accuracy_drop`` by how much the student at full width is better there. ``refused``
    says why it does not ship; empty where it may. A file that could not be made at all has None
    for what could not be found out.
    """

    name: str
    model: ModelKey
    format: str  # onnx | litert | executorch | coreml
    precision: str  # fp32 | fp16 | int8 | int8 weights | int4 weights
    file: str | None
    snr_db: float | None
    agreement: float | None
    public_accuracy: float | None
    accuracy_drop: float | None
    refused: str = ""
    float_ops: list[str] = field(default_factory=list)
