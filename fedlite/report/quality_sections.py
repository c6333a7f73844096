"""Sections of ``report.json`` on how good and how sure single models are, and on their cascade."""

from typing import TypedDict

from fedlite.base.records import ModelKey


class BinEntry(TypedDict):
    """A bin of the reliability diagram; see :class:`fedlite.base.calibration.Bin`."""

    examples: int
    confidence: float
    accuracy: float


class ClassEntry(TypedDict):
    """A class; see :class:`fedlite.base.class_scores.ClassScores`."""

    class_name: str
    examples: int
    answered: int
    precision: float | None
    recall: float | None
    f1: float | None


class EnergyEntry(TypedDict):
    """Joules of one inference, None where they are not known.

    ``measured`` is False of an estimate; ``source`` says what was measured, or estimated from.
    ``operations`` are multiplications, each with an addition.
    """

    operations: float
    joules: float | None
    measured: bool
    source: str


class QualityFacts(TypedDict):
    """One file on the test set, as it answered there when it was measured.

    ``confusion[i][j]`` examples of class i were answered with j. ``temperature`` is that of its
    probabilities, fitted on ``calibrated_on`` public examples; 1 and 0 where those were too few.
    ``calibration_error`` is the expected one (15 bins), ``calibration_error_before`` the same
    without the temperature, and ``error_by_chance`` what a perfectly calibrated model of these
    confidences would show on so many examples.
    """

    model: ModelKey
    confusion: list[list[int]]
    temperature: float
    calibrated_on: int
    calibration_error: float
    calibration_error_before: float
    error_by_chance: float
    bins: list[BinEntry]
    energy: EnergyEntry


class QualityEntry(QualityFacts):
    """The same with what follows from the confusion matrix."""

    classes: list[ClassEntry]


class PointEntry(TypedDict):
    """A threshold; see :class:`fedlite.distill.cascade.Point`."""

    threshold: float
    share: float
    accuracy: float


class CascadeFacts(TypedDict):
    """What asking the teacher below each threshold comes to, on public examples and on the test
    set; the two curves have the same thresholds. ``student`` and ``teacher`` are names of files."""

    student: str
    teacher: str
    public: list[PointEntry]
    test: list[PointEntry]
    public_examples: int


class CascadeCost(TypedDict):
    """Of one answer, on average: milliseconds, and joules where both files' are known."""

    milliseconds: float
    joules: float | None


class CascadeSection(CascadeFacts):
    """The point that ``cascade.share`` or ``cascade.accuracy`` chose, and what each point costs.

    ``chosen`` is its place in both curves; ``reached`` is False where no threshold has the
    accuracy wished for on public data. ``costs`` go with the points of ``test``. ``round_trip_ms``
    is the option of that name.
    """

    chosen: int
    reached: bool
    wished_share: float
    wished_accuracy: float | None
    costs: list[CascadeCost]
    round_trip_ms: float


class AnswersFacts(TypedDict, total=False):
    """What the answers on the test set say beyond accuracy; runs of before lack it."""

    quality: dict[str, QualityFacts]
    cascade: CascadeFacts
