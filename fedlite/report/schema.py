"""The shape of ``report.json``, schema version 1: every key, what it means and its unit.

Sizes are bytes, times seconds unless the name says ``_ms``, shares lie between 0 and 1. A number
that is not finite is null in the file. Keys are only added within a version: what the first reports
lacked is ``NotRequired``. docs/report.md tells the same to those who read the file.
"""

from typing import Any, Literal, NotRequired, TypedDict, final

from fedlite.base.records import Metric, ModelKey
from fedlite.report.audit_sections import AuditsSection
from fedlite.report.quality_sections import CascadeSection, QualityEntry
from fedlite.report.sections import (
    EnvironmentSection,
    FleetSection,
    JudgementSection,
    MemorySection,
    TogetherSection,
)

SearchMeasure = Literal["accuracy", "latency_ms", "bytes", "parameters"]
TimedPart = Literal["teacher", "warm_start", "plan", "federate", "compress", "evaluate", "total"]
TrafficPart = Literal["bytes_down", "bytes_up", "teacher_bytes"]


class RunSection(TypedDict):
    """Which run this is. ``dir`` is where it was when the report was written, at ``written`` (ISO
    8601); ``command`` makes the same run in another directory."""

    dir: str
    run_id: str
    seed: int
    written: NotRequired[str]
    command: NotRequired[str]


class DatasetSection(TypedDict):
    """The data: ``public``, ``private`` and ``test`` are numbers of examples.

    All evaluations are on the test set, or on held-out training examples where ``evaluated_on``
    says so.
    """

    name: str
    classes: int
    public: int
    private: int
    test: int
    evaluated_on: NotRequired[Literal["test", "holdout"]]
    partition: str


class LatencyEntry(TypedDict):
    """Milliseconds of one call of the runtime, from an array to an array."""

    p50: float
    p95: float
    min: float


class FileMeasures(TypedDict):
    """Quality on the test set and cost of an exported file, in the runtime that serves it.

    ``gzip_bytes`` is the file compressed for the transfer. ``load_ms`` is opening it,
    ``peak_memory_bytes`` the peak resident set after that and the smallest batch.
    """

    accuracy: float
    macro_f1: float
    parameters: int
    bytes: int
    gzip_bytes: NotRequired[int]
    load_ms: NotRequired[float]
    peak_memory_bytes: NotRequired[int]
    runtime: str


@final
class ModelEntry(FileMeasures):
    """One of ``models``, as an ONNX file; ``latency_ms`` is at batch 1. Batch sizes are text."""

    latency_ms: LatencyEntry
    latency_ms_by_batch: NotRequired[dict[str, LatencyEntry]]


@final
class ArtefactEntry(TypedDict):
    """A file that could ship, or a baseline that it is compared with.

    ``refused`` says why it does not ship, empty where it may. ``file`` is relative to the run
    directory, None where it could not be made. ``snr_db`` and ``agreement`` compare its logits with
    those of the torch model, ``public_accuracy`` is on public data, and ``accuracy_drop`` by how
    much the student before compression is better there. Baselines lack what only a judged file
    has. The rest is as in :class:`FileMeasures`, and absent where the file does not run on this
    machine.
    """

    name: str
    model: ModelKey
    format: str
    precision: str
    refused: str
    file: NotRequired[str | None]
    snr_db: NotRequired[float | None]
    agreement: NotRequired[float | None]
    public_accuracy: NotRequired[float | None]
    accuracy_drop: NotRequired[float | None]
    float_ops: NotRequired[list[str]]
    accuracy: NotRequired[float]
    macro_f1: NotRequired[float]
    parameters: NotRequired[int]
    bytes: NotRequired[int]
    gzip_bytes: NotRequired[int | None]
    load_ms: NotRequired[float | None]
    peak_memory_bytes: NotRequired[int | None]
    runtime: NotRequired[str]
    latency_ms_by_batch: NotRequired[dict[str, LatencyEntry]]


class EpsilonsSpent(TypedDict, total=False):
    """What ledgers hold: ``epsilon_max`` over clients, or of all releases; under RDP besides.

    Absent from a plan that nothing was charged for yet.
    """

    epsilon_max: float
    epsilon_rdp_max: float


class EpsilonsByClient(EpsilonsSpent, total=False):
    """Example-level; what tells who took part is left out beside an amplified client-level claim.

    ``local_epsilon_max`` is what an observer of single updates would face (aggregate trust).
    ``groups`` is, by number of examples of one client (as text), what they cost together at
    the same delta (:mod:`fedlite.privacy.groups`); the maximum over clients.
    """

    epsilon_mean: float
    epsilon_p95: float
    participations_max: int
    local_epsilon_max: float
    groups: dict[str, float]


class EpsilonsOfReleases(EpsilonsSpent, total=False):
    """Client-level: ``rounds_charged`` is how many releases the ledger holds."""

    rounds_charged: int


class NoiseShares(TypedDict, total=False):
    """Aggregate trust: one client's noise, the smallest sum released, colluders assumed in it."""

    client_noise_multiplier: float
    min_cohort: int
    colluders: int


class AuditedBound(TypedDict, total=False):
    """The lower bound that an audit measured, and the epsilon claimed there, both at its delta.

    ``audited_objects`` is what its canaries attacked, ``audited_verdict`` what it found of the
    claim; absent from the reports of the first audits.
    """

    audited_epsilon: float
    audited_claim: float | None
    audited_delta: float
    audited_objects: str
    audited_verdict: str


class PrivacyUnit(AuditedBound):
    """What both units of privacy tell of their plan. ``budget`` is the epsilon that is allowed."""

    accountant: str
    delta: float
    budget: float | None
    noise_multiplier: float
    sampling: str
    trust: str
    sample_rate: float
    adjacency: str
    randomness: str


@final
class ExampleUnit(PrivacyUnit, EpsilonsByClient, NoiseShares):
    """Example-level privacy. ``steps`` are those of one participation."""

    unit: Literal["example"]
    max_grad_norm: float
    expected_batch_size: float
    steps: int
    max_participations: int


@final
class ClientUnit(PrivacyUnit, EpsilonsOfReleases):
    """Client-level privacy. ``sample_rate`` is of clients, ``clip`` the norm of an update."""

    unit: Literal["client"]
    clip: float
    adaptive_clip: bool
    expected_cohort: float
    max_rounds: int


class PrivacyOfSweep(TypedDict, total=False):
    """There only in a job of a sweep that has ended."""

    together: TogetherSection


class PrivacySection(PrivacyOfSweep):
    """``units`` is empty when ``private`` is false; ``protects`` says what one example is.

    With ``randomness`` deterministic nothing is private, whatever the numbers say.
    ``derived_constants`` are the options that were left open and filled in from private data, each
    with what it was made of.
    """

    private: bool
    randomness: str
    protects: str
    units: list[ExampleUnit | ClientUnit]
    derived_constants: NotRequired[dict[str, str]]


class FederationSection(TypedDict):
    """Who took part, over all rounds; ``clients_per_round`` is their mean.

    ``refusals`` counts reasons. ``rounds_not_released`` had too few clients for the sum to be
    private. ``stopped`` says why the rounds ended early, else it is empty. ``epsilons`` are the
    example-level ones of every client after the last round, in client order; empty without that
    unit.
    """

    num_clients: int
    rounds: int
    rounds_planned: int
    clients_per_round: float
    strategy: str
    engine: str
    local_steps: int
    clients_trained: int
    clients_refused: int
    clients_failed: int
    refusals: dict[str, int]
    rounds_not_released: int
    stopped: str
    epsilons: list[float]


class CompressionResult(TypedDict):
    """What came of compression; see :class:`fedlite.compress.judge.CompressedStudent`.

    ``judges`` is how many public examples judged the files. ``shipped`` says by format which
    artefact lies in ``deploy/``. ``folded_norms`` names the norms that were exchanged.
    ``max_difference`` is between the logits of the pruned model in torch and in its file.
    """

    judges: int
    shipped: dict[str, str]
    folded_norms: list[str]
    public_accuracy: dict[ModelKey, float]
    parameters_before: int
    parameters_folded: int
    parameters_after: int
    nonzero_weights: int
    max_difference: float


class CompressionSection(CompressionResult):
    """The options that compressed the student, and what came of them.

    ``float_ops`` are the operators of the quantized ONNX file that are still computed in float.
    """

    norms: str
    ratio: float
    criterion: str
    quantization: str
    bits: int
    recovery_steps: int
    sparsity: float
    gzip_bytes: dict[ModelKey, int]
    float_ops: list[str]


class SearchTarget(TypedDict):
    """The limits of a search; None is no limit. ``latency_ms`` is the median at batch 1."""

    latency_ms: float | None
    bytes: int | None
    max_accuracy_drop: float | None


class SearchSection(TypedDict):
    """What a search found. ``trials``, ``feasible`` and ``failed`` are numbers of trials.

    ``chosen`` holds options by name. ``default`` and ``best`` are what the hand-set options and
    those found came to; ``default`` is None where that trial failed. ``reached`` says whether all
    limits were kept to, ``text`` what was found, in one line. ``trials_file`` is relative to the
    run directory, ``pictures`` are names in ``pictures/`` without their ending. ``metric`` is what
    ``accuracy`` stands for (absent: accuracy).
    """

    kind: str
    metric: NotRequired[Metric]
    trials: int
    feasible: int
    failed: int
    seconds: float
    chosen: dict[str, str | int | float]
    default: dict[SearchMeasure, float] | None
    best: dict[SearchMeasure, float]
    target: SearchTarget
    reached: bool
    text: str
    trials_file: str
    pictures: list[str]


class RoundEvaluation(TypedDict):
    """The federated student after a round, on the test set; ``loss`` is its cross-entropy."""

    accuracy: float
    macro_f1: float
    loss: float


class EpsilonsOfRound(TypedDict):
    """Example-level epsilons spent up to a round, over all clients."""

    min: float
    mean: float
    p95: float
    max: float


class RoundEntry(TypedDict):
    """A finished round, as :class:`fedlite.base.records.RoundRecord` describes it, its epsilons
    summed up: an entry is of the same size however many clients there are.

    ``epsilon`` is None without the example-level unit.
    """

    round: int
    evaluation: RoundEvaluation | None
    clients_trained: int
    clients_refused: int
    clients_failed: int
    epsilon: EpsilonsOfRound | None
    bytes_down: int
    bytes_up: int
    seconds: dict[str, float]
    teacher_bytes: int
    released: bool
    refusals: dict[str, int]
    client_level_epsilon: float | None
    clip: float | None
    simulated: NotRequired[dict[str, float]]


class Report(TypedDict):
    """All sections, in the order of the file.

    ``schema_version`` is there once it is written. ``search`` is None where none ran. ``traffic``
    is bytes over all rounds. ``timing`` is seconds by stage, of the attempt that finished it.
    ``config`` is the resolved configuration, whose keys are options; ``changed`` are those of them
    that decide a result and are not as they are where nothing is given, by their full key.
    ``quality`` is of the teacher's file and of those that ship, by their name; ``cascade`` of the
    two together. Both are absent from runs of before, and ``cascade`` where the public examples
    that trained no model are too few.
    """

    schema_version: NotRequired[int]
    run: RunSection
    dataset: DatasetSection
    models: dict[ModelKey, ModelEntry]
    privacy: PrivacySection
    federation: FederationSection
    fleet: NotRequired[FleetSection]
    judgement: NotRequired[JudgementSection]
    compression: NotRequired[CompressionSection]
    artefacts: NotRequired[list[ArtefactEntry]]
    quality: NotRequired[dict[str, QualityEntry]]
    cascade: NotRequired[CascadeSection]
    search: NotRequired[SearchSection | None]
    traffic: dict[TrafficPart, int]
    timing: dict[TimedPart, float]
    memory: NotRequired[MemorySection]
    audits: NotRequired[AuditsSection]
    environment: EnvironmentSection
    config: dict[str, Any]
    changed: NotRequired[dict[str, Any]]
    history: list[RoundEntry]
