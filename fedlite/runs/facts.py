"""What a finished stage writes down for the stages after it and for the report (``state.json``)."""

from typing import TypedDict


class EvaluationFacts(TypedDict):
    """A model on the test set; see :class:`fedlite.base.records.Evaluation`."""

    accuracy: float
    macro_f1: float
    loss: float
    confusion: list[list[int]]


class RoundEvaluationFacts(TypedDict):
    """A round's evaluation: without its confusion matrix."""

    accuracy: float
    macro_f1: float
    loss: float


class RoundFacts(TypedDict):
    """A finished round; see :class:`fedlite.base.records.RoundRecord`."""

    round: int
    evaluation: RoundEvaluationFacts | None
    clients_trained: int
    clients_refused: int
    clients_failed: int
    epsilons: list[float]
    bytes_down: int
    bytes_up: int
    seconds: dict[str, float]
    teacher_bytes: int
    released: bool
    refusals: dict[str, int]
    client_level_epsilon: float | None
    clip: float | None
