"""What a finished stage writes down for the stages after it and for the report (``state.json``)."""

from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from fedlite.base.records import Evaluation, ModelKey, StudentKey
from fedlite.compress.options import Criterion, Norms, Quantization
from fedlite.report.quality_sections import AnswersFacts
from fedlite.report.schema import (
    ArtefactEntry,
    CompressionResult,
    LatencyEntry,
    RoundEntry,
    RoundEvaluation,
    SearchSection,
)
from fedlite.report.sections import MemorySection

if TYPE_CHECKING:  # it takes NumPy, and every start of the command comes by here
    from fedlite.base.intervals import PairedComparison
    from fedlite.base.paired_scores import PairedScores

ModelStage = Literal["teacher", "warm_start", "federate"]
MODEL_STAGES: dict[ModelKey, ModelStage] = {  # which stage makes a model
    "teacher": "teacher",
    "public_student": "warm_start",
    "federated_student": "federate",
}


class EvaluationFacts(RoundEvaluation):
    """A model on the test set; see :class:`fedlite.base.records.Evaluation`."""

    confusion: list[list[int]]


class ModelFacts(TypedDict):
    """Of the teacher or the public student: where it came from, and how good it is."""

    source: Literal["checkpoint", "cache", "trained"]
    evaluation: EvaluationFacts


class PlanFacts(TypedDict):
    """The plans (:meth:`fedlite.federation.plans.Plans.to_facts`), and ``privacy.ledger_dir``.

    ``ledger_dir`` is None where the ledgers lie in the run directory. ``division`` is the digest of
    who holds what (:attr:`fedlite.privacy.division.Division.sha256`); None without privacy, and
    absent in runs from before ledgers were bound to it.
    """

    plans: dict[str, Any]
    ledger_dir: str | None
    division: NotRequired[str | None]


class FederateFacts(TypedDict):
    """The federated student's hash and quality, every round, and why it stopped early if it did.

    ``epsilons`` are those of every client after the last round. Runs of before have none: their
    rounds hold all of them (:mod:`fedlite.runs.history`). ``memory`` is absent where the system
    does not tell, and from runs of before.
    """

    sha256: str
    stopped: str
    evaluation: EvaluationFacts
    history: list[RoundEntry]
    epsilons: NotRequired[list[float]]
    memory: NotRequired[MemorySection]


class CompressionChoice(TypedDict):
    """The options of compression that a search may choose and the report tells."""

    norms: Norms
    ratio: float
    criterion: Criterion
    quantization: Quantization
    bits: Literal[8, 4]
    recovery_steps: int
    sparsity: float


class Searched(TypedDict, total=False):
    """There only where the options of compression were searched."""

    search: SearchSection


class PairedFacts(TypedDict):
    """See :class:`fedlite.base.intervals.PairedComparison`: public-only student, federated one."""

    examples: int
    both_right: int
    only_first: int
    only_second: int


class ScoresFacts(TypedDict):
    """See :class:`fedlite.base.paired_scores.PairedScores`: public-only student, federated one."""

    first: float
    second: float
    low: float
    high: float


class KeptFacts(TypedDict, total=False):
    """Which student was compressed and what chose it (:class:`fedlite.distill.keep.KeptStudent`).

    Absent from directories of versions that always kept the federated student.
    """

    kept: StudentKey
    validation: PairedFacts | None
    validation_scores: ScoresFacts


class CompressFacts(Searched, KeptFacts, CompressionResult):
    """What compression chose and made; nothing was measured of ``artefacts`` yet."""

    options: CompressionChoice
    artefacts: list[ArtefactEntry]


class CostFacts(TypedDict):
    """What a file costs; see :class:`fedlite.base.records.Cost`."""

    bytes: int
    gzip_bytes: int
    latency_ms: dict[str, LatencyEntry]
    load_ms: float
    peak_memory_bytes: int
    runtime: str
    joules: NotRequired[float | None]


class MeasurementFacts(TypedDict):
    """Quality and cost of a file; see :class:`fedlite.base.records.Measurement`."""

    accuracy: float
    macro_f1: float
    parameters: int
    cost: CostFacts


class BaselineFacts(TypedDict):
    """What artefacts are compared with: eager torch, or the teacher in another format."""

    name: str
    model: ModelKey
    format: str
    measurement: MeasurementFacts


class TestedPair(TypedDict, total=False):
    """The two students at full width on the test set, example by example; old runs lack it."""

    tested_pair: PairedFacts
    tested_scores: ScoresFacts


class EvaluateFacts(TestedPair, AnswersFacts):
    """Measurements: of models by key, of artefacts by name, and of what they are compared with."""

    models: dict[ModelKey, MeasurementFacts]
    artefacts: dict[str, MeasurementFacts]
    baselines: list[BaselineFacts]


class StudentSearchFacts(SearchSection):
    """As the section ``search`` of a report, and the YAML file of the student that was found."""

    student_file: str


class TuneFacts(TypedDict):
    """What tuning chose; files are relative to the run directory.

    ``trials`` and ``failed`` are numbers of trials, ``seconds`` of all of them. ``clients`` were
    simulated, with ``examples_per_client`` public examples each.
    """

    chosen: dict[str, str | int | float]
    by_hand: dict[str, str | int | float]
    trials: int
    failed: int
    seconds: float
    clients: int
    examples_per_client: int
    text: str
    trials_file: str
    experiment_file: str


class ClassesFacts(TypedDict):
    """Of a run of several classes of students: the numbers of the clients of each."""

    members: dict[str, list[int]]


class NoFacts(TypedDict):
    """Of a stage whose result lies in files alone."""


class Stages(TypedDict, total=False):
    """The facts of every finished stage; one that has not run is absent.

    The run directory adds ``fingerprint`` and ``seconds`` to each
    (:meth:`fedlite.runs.directory.RunDirectory.stage`).
    """

    classes: ClassesFacts
    teacher: ModelFacts
    warm_start: ModelFacts
    plan: PlanFacts
    federate: FederateFacts
    compress: CompressFacts
    evaluate: EvaluateFacts
    report: NoFacts
    audit: NoFacts
    search_student: StudentSearchFacts
    tune: TuneFacts


def evaluation_facts(evaluation: Evaluation) -> EvaluationFacts:
    """An evaluation as plain values."""
    return {
        "accuracy": evaluation.accuracy,
        "macro_f1": evaluation.macro_f1,
        "loss": evaluation.loss,
        "confusion": evaluation.confusion,
    }


def paired_facts(found: "PairedComparison") -> PairedFacts:
    """A comparison as plain values; ``PairedComparison(**facts)`` is the inverse."""
    return {
        "examples": found.examples,
        "both_right": found.both_right,
        "only_first": found.only_first,
        "only_second": found.only_second,
    }


def scores_facts(found: "PairedScores") -> ScoresFacts:
    """Scores as plain values; ``PairedScores(**facts)`` is the inverse."""
    return {"first": found.first, "second": found.second, "low": found.low, "high": found.high}
