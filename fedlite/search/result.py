"""What a search delivers: which trial, why that one, and how to say so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedlite.base.errors import FedliteError
from fedlite.base.records import METRIC_NAMES, Metric
from fedlite.report.words import gain_text, human_bytes, score_text
from fedlite.search.trials import Limits, Outcome, Trial

Choose = Callable[[Sequence[Trial]], Trial | None]
"""The trial within the limits that would be delivered; None where none is within them."""


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    ``kind`` is ``compression``, ``student`` or ``tune``. The first of ``trials`` is what was set by
    hand. ``chosen`` keeps to ``limits`` if ``reached``; else it is the trial that is least far over
    them.
    ``wanted`` is the number of an outcome that is looked at, and ``course`` what it was, after
    each trial, in the trial that was best so far (None before the first within the limits).
    ``metric`` is what the outcomes' ``accuracy`` is.
    """

    kind: str
    trials: list[Trial]
    limits: Limits
    chosen: Trial
    reached: bool
    wanted: str
    course: list[float | None]
    metric: Metric = "accuracy"

    @property
    def best(self) -> Outcome:
        """What the chosen trial came to."""
        assert self.chosen.outcome is not None  # failed trials are never chosen
        return self.chosen.outcome

    @property
    def default(self) -> Outcome | None:
        """What the trial that was set by hand came to; None where it failed."""
        return self.trials[0].outcome

    @property
    def seconds(self) -> float:
        """All trials took this long."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def feasible(self) -> list[Trial]:
        """The trials within the limits."""
        return [trial for trial in self.trials if self.limits.feasible(trial)]

    @property
    def failed(self) -> list[Trial]:
        """The trials that came to nothing."""
        return [trial for trial in self.trials if trial.outcome is None]


def cheapest(trials: Sequence[Trial], limits: Limits, wanted: str) -> Trial | None:
    """Of the trials within ``limits`` the one with the least ``wanted``: bytes or latency_ms.

    Of equal ones the more accurate, then the earlier. None where no trial is within the limits.
    """
    return min(
        (trial for trial in trials if limits.feasible(trial)),
        key=lambda trial: (_number(trial, wanted), -_number(trial, "accuracy"), trial.number),
        default=None,
    )


def smallest_accurate(trials: Sequence[Trial], limits: Limits, max_drop: float) -> Trial | None:
    """Of the trials within ``limits`` the one with the fewest parameters that is accurate enough.

    Accurate enough is at most ``max_drop`` below the most accurate trial within the limits. Of
    equal ones that with the smaller file, then the earlier. None where no trial is within them.
    """
    feasible = [trial for trial in trials if limits.feasible(trial)]
    best = max((_number(trial, "accuracy") for trial in feasible), default=0.0)
    return min(
        (one for one in feasible if round(best - _number(one, "accuracy"), 9) <= max_drop),
        key=lambda one: (_number(one, "parameters"), _number(one, "bytes"), one.number),
        default=None,
    )


def conclude(
    kind: str,
    trials: list[Trial],
    limits: Limits,
    wanted: str,
    choose: Choose,
    metric: Metric = "accuracy",
) -> SearchResult:
    """Choose among the finished trials of a search.

    Args:
        kind: ``compression``, ``student`` or ``tune``.
        trials: in the order they were tried; the first is what was set by hand.
        limits: those that the search was held to.
        wanted: the number of an outcome that is looked at.
        choose: the rule; see :data:`Choose`.
        metric: what the outcomes' ``accuracy`` is.

    Raises:
        FedliteError: every trial failed.
    """
    chosen = choose(trials)
    best_so_far = [choose(trials[: count + 1]) for count in range(len(trials))]
    reached = chosen is not None
    if chosen is None:
        chosen = _nearest(trials, limits)
    return SearchResult(
        kind=kind,
        trials=trials,
        limits=limits,
        chosen=chosen,
        reached=reached,
        wanted=wanted,
        course=[None if trial is None else _number(trial, wanted) for trial in best_so_far],
        metric=metric,
    )


def describe(outcome: Outcome, metric: Metric) -> str:
    """An outcome in a few words: ``48.2 kB, 0.021 ms, accuracy 84.1%``."""
    words = []
    if outcome.bytes is not None:
        words.append(human_bytes(outcome.bytes))
    if outcome.latency_ms is not None:
        words.append(_milliseconds(outcome.latency_ms))
    if outcome.accuracy is not None:
        words.append(f"{METRIC_NAMES[metric]} {score_text(outcome.accuracy, metric)}")
    if outcome.parameters is not None:
        words.append(f"{outcome.parameters:,} parameters")
    return ", ".join(words)


def difference(found: Outcome, default: Outcome, metric: Metric) -> str:
    """What was found against what was set by hand: ``+1.2 points, 0.30x the bytes, ...``."""
    words = [f"{METRIC_NAMES[metric]} not known"]
    if found.accuracy is not None and default.accuracy is not None:
        words = [gain_text(found.accuracy - default.accuracy, metric)]
    for what in ("bytes", "latency_ms", "parameters"):
        now, before = getattr(found, what), getattr(default, what)
        if now is not None and before is not None:
            words.append(f"{now / before:.2f}x the {what.removesuffix('_ms')}")
    return ", ".join(words)


def one_line(result: SearchResult) -> str:
    """What was found, or how near the search came to the limits, and what was set by hand."""
    chosen, count, metric = result.chosen, len(result.trials), result.metric
    by_hand = chosen is result.trials[0]
    mark = ", set by hand" if by_hand else ""
    if result.reached:
        within = f"({len(result.feasible)} within the limits)"
        text = f"trial {chosen.number} of {count} {within}{mark}: {describe(result.best, metric)}"
    else:
        text = (
            f"none of {count} trials keeps to all limits; the nearest, trial"
            f" {chosen.number}{mark}, has {_overruns(result.limits, result.best, metric)}"
        )
    if by_hand or result.default is None:
        return text
    against = difference(result.best, result.default, metric)
    return f"{text}; set by hand: {describe(result.default, metric)}; the difference: {against}"


def _overruns(limits: Limits, outcome: Outcome, metric: Metric) -> str:
    words = []
    for name, excess in limits.excess(outcome).items():
        if excess <= 0:
            continue
        match name:
            case "latency_ms":
                assert limits.latency_ms is not None
                assert outcome.latency_ms is not None
                found, limit = _milliseconds(outcome.latency_ms), _milliseconds(limits.latency_ms)
            case "bytes":
                assert limits.bytes is not None
                assert outcome.bytes is not None
                found, limit = human_bytes(outcome.bytes), human_bytes(limits.bytes)
            case _:
                assert limits.reference_accuracy is not None
                assert limits.max_accuracy_drop is not None
                assert outcome.accuracy is not None
                lost = _lost(limits.reference_accuracy - outcome.accuracy, metric)
                found, limit = f"{lost} lost", _lost(limits.max_accuracy_drop, metric)
        words.append(f"{found} where {limit} is the limit")
    return ", ".join(words)


def _nearest(trials: Sequence[Trial], limits: Limits) -> Trial:
    """The trial that is least far over the limits in sum; of equal ones the earlier.

    Trials that keep to the limit of accuracy come first: a file that lost more does not ship.
    """
    sums = [
        (
            limits.excess(trial.outcome).get("accuracy", 0.0) > 0,
            limits.shortfall(trial.outcome),
            trial.number,
            trial,
        )
        for trial in trials
        if trial.outcome is not None
    ]
    if not sums:
        raise FedliteError(f"search: all trials failed; the first one: {trials[0].reason}")
    return min(sums, key=lambda entry: entry[:3])[3]


def _number(trial: Trial, name: str) -> float:
    """A number of the outcome of a trial within the limits."""
    return float(getattr(trial.outcome, name))


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms"


def _lost(share: float, metric: Metric) -> str:
    return f"{100 * share:.2g} points" if metric == "accuracy" else f"{share:.2g} of macro-F1"
