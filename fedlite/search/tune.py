"""Tuning a federation on public data: trials on one division of it, confirmed on others."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from fedlite.base.errors import FedliteError
from fedlite.base.files import write_whole
from fedlite.base.intervals import PairedComparison
from fedlite.base.paired_scores import Classes, PairedScores, macro_f1
from fedlite.base.records import METRIC_NAMES
from fedlite.data.types import Task
from fedlite.distill.public import require_public
from fedlite.report.words import score_text
from fedlite.search.archive import log_trial
from fedlite.search.harness import Budget, OnTrial, Space, run_trials
from fedlite.search.options import TuneOptions
from fedlite.search.result import SearchResult, conclude
from fedlite.search.trials import Limits, Options, Outcome, Trial
from fedlite.search.tune_world import Fold

log = logging.getLogger(__name__)

CONFIRMATIONS = "confirmations"
ANSWERS_FILE = "answers.npy"

Federate = Callable[[Options, int, Path], Classes]
"""(options of a trial, number of the fold, an empty folder) -> what the federated student answers
to each of the fold's validation examples."""


@dataclass(frozen=True)
class TuneResult:
    """A finished tuning.

    ``search`` holds the trials; its ``chosen`` is what is handed out. ``best`` is the trial of the
    highest score, and ``confirmation`` how it did against the hand-set options on ``examples``
    public ones that no trial had seen; None where those were the best themselves, or failed.
    """

    search: SearchResult
    best: Trial
    confirmation: PairedComparison | PairedScores | None
    examples: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything else than the hand-set options is handed out."""
        return self.search.chosen is not self.search.trials[0]


def tune_federation(
    federate: Federate,
    folds: Sequence[Fold],
    space: Space,
    tune: TuneOptions,
    task: Task,
    directory: Path,
    identity: str,
    seed: int,
    *,
    on_trial: OnTrial | None = None,
    on_confirmation: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> TuneResult:
    """Choose the options of a federation by federations on public data.

    Trials are scored by the task's metric on the validation examples of the first fold; the
    hand-set options are the first trial. The best of many scores is partly luck, so the best trial
    meets the hand-set options again on the other folds, whose validation examples no trial has
    seen. It is chosen if it is better there, beyond chance: right about more examples
    (:attr:`~fedlite.base.intervals.PairedComparison.verdict`), or of the higher macro-F1
    (:attr:`~fedlite.base.paired_scores.PairedScores.verdict`); else the hand-set options are.

    Args:
        federate: runs one federation; a :class:`FedliteError` is a failed trial.
        folds: divisions of the public data; the first one scores.
        space: what can be chosen.
        tune: budget.
        task: its metric and its number of classes.
        directory: of the trials; an interrupted tuning goes on there.
        identity: a hash of all that decides a trial.
        seed: of the proposals.
        on_trial: called with each new trial.
        on_confirmation: called after each federation on another fold.
        clock: seconds.

    Raises:
        TypeError: a fold holds other than public data.
        FedliteError: the first trials all failed.
    """
    for fold in folds:
        require_public(fold.training)
        require_public(fold.validation)

    def evaluate(options: Options, folder: Path) -> Outcome:
        answers, labels = federate(options, 0, folder), folds[0].validation.labels.numpy()
        if task.metric == "accuracy":
            return Outcome(accuracy=float((answers == labels).mean()))
        return Outcome(accuracy=macro_f1(answers, labels, task.num_classes))

    trials = run_trials(
        space,
        evaluate,
        Limits(),
        Budget(tune.trials, tune.population, tune.max_seconds),
        directory,
        identity,
        seed,
        log_trial("tune", Limits(), directory, on_trial),
        clock,
    )
    found = conclude("tune", trials, Limits(), "accuracy", most_accurate, task.metric)
    by_hand, best = trials[0], found.chosen
    if best is by_hand or by_hand.outcome is None:
        return TuneResult(found, best, None)

    kept = directory / CONFIRMATIONS / f"{identity[:16]}-of-{len(folds)}"  # folds follow from both

    def answered(trial: Trial, number: int) -> Classes:
        folder, labels = kept / f"{number}-{trial.number:03d}", folds[number].validation.labels
        wrong: Classes = (labels.numpy() + 1) % task.num_classes
        found = _confirmed(federate, trial.options, number, folder, wrong)
        on_confirmation()
        return found

    met = [(answered(by_hand, number), answered(best, number)) for number in range(1, len(folds))]
    first, second = (np.concatenate(answers) for answers in zip(*met, strict=True))
    labels = np.concatenate([fold.validation.labels.numpy() for fold in folds[1:]])
    comparison = compare_answers(first, second, labels, task)
    if comparison.verdict == "better":
        return TuneResult(found, best, comparison, len(labels))
    unchanged = conclude("tune", trials, Limits(), "accuracy", lambda some: some[0], task.metric)
    return TuneResult(unchanged, best, comparison, len(labels))


def compare_answers(
    first: Classes, second: Classes, labels: Classes, task: Task
) -> PairedComparison | PairedScores:
    """Two students' answers (n,) to the same examples, compared by the task's metric."""
    if task.metric == "macro_f1":
        return PairedScores.of(first, second, labels, task.num_classes)
    return PairedComparison.of(first == labels, second == labels)


def most_accurate(trials: Sequence[Trial]) -> Trial | None:
    """The trial of the highest score, of equal ones the earlier; None where all failed."""
    scored = [trial for trial in trials if trial.outcome is not None]
    return max(scored, key=lambda one: (_score(one), -one.number), default=None)


def describe_tuning(result: TuneResult) -> str:
    """What was found, against what was set by hand, in one line."""
    search, best, met = result.search, result.best, result.confirmation
    count, metric = len(search.trials), search.metric
    score = f"{METRIC_NAMES[metric]} {score_text(_score(best), metric)}"
    if best is search.trials[0]:
        return f"the hand-set options, {score}, are the best of {count} trials"
    text = f"trial {best.number} of {count}, {score}, is the best"
    if met is None:
        return f"{text}; the hand-set options failed: {search.trials[0].reason}"
    text += (
        f" (set by hand: {score_text(_score(search.trials[0]), metric)}); on {result.examples:,}"
        f" other public examples {_met(met)}"
    )
    verdict = "chosen" if result.changed else "no gain beyond chance, nothing is changed"
    return f"{text}: {verdict}"


def _met(met: PairedComparison | PairedScores) -> str:
    """The gain on the examples that no trial had seen."""
    if isinstance(met, PairedScores):
        return f"{met.gained:+.3f} of macro-F1 (95% interval {met.low:+.3f} to {met.high:+.3f})"
    low, high = met.interval
    return (
        f"{100 * met.gained / met.examples:+.1f} points (95% interval {100 * low:+.1f} to"
        f" {100 * high:+.1f})"
    )


def _confirmed(
    federate: Federate, options: Options, number: int, folder: Path, wrong: Classes
) -> Classes:
    """What a federation answers on another fold; kept, so that it is run once.

    One that fails gets nothing right: its answers are ``wrong``.
    """
    path = folder / ANSWERS_FILE
    if path.exists():
        kept: Classes = np.load(path)
        return kept
    shutil.rmtree(folder, ignore_errors=True)  # of one that was broken off
    folder.mkdir(parents=True)
    try:
        answers = federate(options, number, folder)
    except FedliteError as error:
        log.warning("tune: a federation on public part %d failed: %s", number, error)
        answers = wrong
    buffer = BytesIO()
    np.save(buffer, answers)
    write_whole(path, buffer.getvalue())
    return answers


def _score(trial: Trial) -> float:
    assert trial.outcome is not None
    assert trial.outcome.accuracy is not None
    return trial.outcome.accuracy
