"""Sections of ``report.json`` about audits: what was attacked, how, and what could be proved."""

from typing import Literal, NotRequired, TypedDict

UnitName = Literal["example", "client"]
Attacked = Literal["student", "compressed", "control"]
AttackedBy = Literal["student", "layer"]
CheckName = Literal[
    "noise",
    "fresh noise",
    "neighbours",
    "shape",
    "push",
    "evenness",
    "sampling",
    "counting",
    "spending",
]


class LowerBound(TypedDict):
    """A lower bound of epsilon and the coins it rests on: ``correct`` of ``guesses`` were right."""

    lower_bound: float
    confidence: float
    guesses: int
    correct: int


class CanarySetting(TypedDict):
    """How canaries were trained; the last two are absent where nothing is claimed."""

    steps: int
    sample_rate: float
    noise_multiplier: NotRequired[float]
    trust: NotRequired[str]


class CheckEntry(TypedDict):
    """One test of what ran against the plan: ``measured`` beside ``planned``, and how likely a
    correct mechanism looks as odd. ``passed`` is False below the share of the audit's error rate
    that the test has. ``tested`` is False where the audit could not see enough for it; the first
    audits do not say."""

    name: CheckName
    measured: float
    planned: float
    p_value: float
    passed: bool
    tested: NotRequired[bool]


class AccountingEntry(TypedDict):
    """What a unit's charges cost for certain, worked out apart from the accountants, beside the
    epsilon that the run claims at the same ``delta``."""

    claimed_epsilon: float
    lower_bound: float
    delta: float
    passed: bool


class CanaryEntry(LowerBound, CanarySetting):
    """The audit of one unit by ``canaries``. Epsilon and ``passed`` are None without a claim.

    ``attacked`` says what in words; the first audits had one object, and no ``checks``.
    """

    unit: UnitName
    attacked: NotRequired[str]
    checks: NotRequired[list[CheckEntry]]
    claimed_epsilon: float | None
    delta: float
    canaries: int
    passed: bool | None


class MembershipSetting(TypedDict):
    """How many candidates in how many clients, students attacked, and students to learn from."""

    candidates: int
    clients: int
    targets: int
    shadows: int


class AttackEntry(LowerBound):
    """One attack. ``tpr`` and ``fpr`` are by the false-positive rate that was aimed at, as text."""

    auc: float
    tpr: dict[str, float]
    fpr: dict[str, float]
    trials: int


class MembershipEntry(MembershipSetting):
    """``attacks`` are by what was attacked; ``control`` is the same training without privacy."""

    claimed_epsilon: float | None
    delta: float
    attacks: dict[Attacked, AttackEntry]
    passed: bool | None


class InversionEntry(TypedDict):
    """``cosine`` compares example and reconstruction, ``features_cosine`` inputs of ``layer``.

    Both are by gradient: ``plain``, ``clipped``, ``noised``, ``noise_alone``.
    """

    layer: str
    method: str
    shown: str
    cosine: dict[str, float]
    features_cosine: dict[str, float]
    noise_multiplier: float | None


class AuditsSection(TypedDict, total=False):
    """The content of ``audits.json``, empty before the first audit; ``seconds`` are by part.

    ``canaries`` (in the run's student), ``dirac`` (in the one-hot layer) and ``accounting`` are by
    unit of privacy.
    """

    seconds: dict[str, float]
    canaries: dict[UnitName, CanaryEntry]
    accounting: dict[UnitName, AccountingEntry]
    dirac: dict[UnitName, CanaryEntry]
    membership: MembershipEntry
    inversion: InversionEntry


# A class cannot hold the last key. ``cores`` is their number; the packages hold their versions.
