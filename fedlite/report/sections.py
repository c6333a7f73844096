"""Sections of ``report.json`` of their own: which student ships, what a sweep's jobs spent, the
simulated fleet, the memory that the federation took, and the machine."""

from typing import Literal, NotRequired, TypedDict

from fedlite.base.records import StudentKey


class JudgedPair(TypedDict):
    """The public-only and the federated student on the same examples, and what follows from it.

    ``both_right`` and ``only_..._right`` are numbers of ``examples``. ``public_interval`` and
    ``federated_interval`` are Wilson's 95% intervals of the accuracies. ``difference`` is the
    federated student's accuracy minus the other's, ``difference_interval`` its exact 95% interval
    given the examples on which they differ, ``p_value`` that of McNemar's exact test. ``verdict``
    is of the federated student: ``no difference`` where p is 0.05 or more.
    """

    examples: int
    both_right: int
    only_public_right: int
    only_federated_right: int
    public_accuracy: float
    public_interval: list[float]
    federated_accuracy: float
    federated_interval: list[float]
    difference: float
    difference_interval: list[float]
    p_value: float
    verdict: Literal["better", "worse", "no difference"]


class JudgedScores(TypedDict):
    """The macro-F1 of the two students on the same examples, where ``dataset.metric`` asks for it.

    ``difference`` is the federated student's minus the other's, ``difference_interval`` its 95%
    interval by the bootstrap; ``verdict`` is of the federated student: ``no difference`` where the
    interval holds 0.
    """

    public: float
    federated: float
    difference: float
    difference_interval: list[float]
    verdict: Literal["better", "worse", "no difference"]


class MajoritySection(TypedDict):
    """A student that answers one class nearly always: its ``share`` of all answers, and ``missed``,
    the share of the other classes' examples that it answers with this class."""

    student: StudentKey
    class_name: str
    share: float
    missed: float


class JudgementSection(TypedDict):
    """Which student at full width ships, by ``federation.keep``, and what the two are worth.

    ``validation`` is on public examples that trained neither and decides; None where there are
    none, or where ``keep`` is ``last`` in a directory that never asked. ``test`` is on the test set
    and decides nothing; None where they were not compared there. ``validation_scores`` and
    ``test_scores`` are the same comparisons by macro-F1, where that is what was asked for; then the
    first decides. ``majority`` is there where the student that ships is of that kind on the test
    set.
    """

    ships: StudentKey
    keep: Literal["best", "last"]
    validation: JudgedPair | None
    test: JudgedPair | None
    validation_scores: NotRequired[JudgedScores]
    test_scores: NotRequired[JudgedScores]
    majority: NotRequired[MajoritySection]


class TogetherUnit(TypedDict):
    """What ``jobs`` of a sweep spent together at one unit of privacy, at their smallest delta.

    ``assumes_sums``: some of it counts only towards those who see no single update.
    """

    unit: Literal["example", "client"]
    jobs: int
    epsilon: float
    delta: float
    accountant: str
    assumes_sums: bool


class TogetherSection(TypedDict):
    """All jobs of a sweep that trained on private data; ``not_private`` of them give no guarantee.

    ``divisions`` counts the ways in which they divide the data among clients. Of more than one,
    the example-level epsilon is that of whoever spent most in each.
    """

    jobs: int
    not_private: int
    divisions: int
    units: list[TogetherUnit]


class DeviceEntry(TypedDict):
    """A class of devices: how many clients are of it, and its nominal visit.

    Seconds and joules are those of a client that has the teacher; ``first_seconds`` of one that
    has to receive it and to ask it first.
    """

    clients: int
    download_seconds: float
    compute_seconds: float
    upload_seconds: float
    overhead_seconds: float
    first_seconds: float
    joules: float


class FleetSection(TypedDict):
    """The rounds on simulated devices; an estimate from public numbers (docs/fleets.md).

    ``seconds`` and ``joules`` are of all rounds, the latter of all clients; ``clients`` are
    means over rounds of those ``asked``, ``away``, ``left`` in mid-round, and ``not_counted``.
    """

    classes: dict[str, DeviceEntry]
    seconds: float
    rounds_an_hour: float
    joules: float
    clients: dict[str, float]


class MemorySection(TypedDict):
    """The most that processes of the federation had of memory (bytes), of the attempt that ended.

    See :class:`fedlite.base.records.PeakMemory`. Of workers nothing is there without them, and on
    Ray.
    """

    process_bytes: int
    fork_server_bytes: NotRequired[int]
    worker_bytes: NotRequired[list[int]]


EnvironmentSection = TypedDict(
    "EnvironmentSection",
    {
        "python": str,
        "platform": str,
        "cores": int | None,
        "device": NotRequired[str],
        "fedlite": str,
        "torch": str,
        "flwr": str,
        "opacus": str,
        "onnx": str,
        "onnxruntime": str,
        "hydra-core": str,
    },
)
