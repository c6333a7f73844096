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
from fedlite.base.intervals import PairedComparison, Right
from fedlite.distill.public import require_public
from fedlite.report.words import percent
from fedlite.search.archive import log_trial
from fedlite.search.harness import Budget, OnTrial, Space, run_trials
from fedlite.search.options import TuneOptions
from fedlite.search.result import SearchResult, conclude
from fedlite.search.trials import Limits, Options, Outcome, Trial
from fedlite.search.tune_world import Fold

log = logging.getLogger(__name__)

CONFIRMATIONS = "confirmations"
CORRECT_FILE = "correct.npy"

Federate = Callable[[Options, int, Path], Right]
"""(options of a trial, number of the fold, an empty folder) -> which of the fold's validation
examples the federated student is right about."""


@dataclass(frozen=True)
class TuneResult:
    """A finished tuning.

    ``search`` holds the trials; its ``chosen`` is what is handed out. ``best`` is the trial of the
    highest score, and ``confirmation`` how it did against the hand-set options on public examples
    that no trial had seen; None where those were the best themselves, or failed.
    """

    search: SearchResult
    best: Trial
    confirmation: PairedComparison | None

    @property
    def changed(self) -> bool:
        """Whether anything else than the hand-set options is handed out."""
        return self.search.chosen is not self.search.trials[0]


def tune_federation(
    federate: Federate,
    folds: Sequence[Fold],
    space: Space,
    tune: TuneOptions,
    directory: Path,
    identity: str,
    seed: int,
    *,
    on_trial: OnTrial | None = None,
    on_confirmation: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> TuneResult:
    """Choose the options of a federation by federations on public data.

    Trials are scored by their accuracy on the validation examples of the first fold; the hand-set
    options are the first trial. The best of many scores is partly luck, so the best trial meets the
    hand-set options again on the other folds, whose validation examples no trial has seen. It is
    chosen if it is right about more of those, beyond chance
    (:attr:`~fedlite.base.intervals.PairedComparison.verdict`); else the hand-set options are.

    Args:
        federate: runs one federation; a :class:`FedliteError` is a failed trial.
        folds: divisions of the public data; the first one scores.
        space: what can be chosen.
        tune: budget.
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
        return Outcome(accuracy=float(federate(options, 0, folder).mean()))

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
    found = conclude("tune", trials, Limits(), "accuracy", most_accurate)
    by_hand, best = trials[0], found.chosen
    if best is by_hand or by_hand.outcome is None:
        return TuneResult(found, best, None)

    kept = directory / CONFIRMATIONS / f"{identity[:16]}-of-{len(folds)}"  # folds follow from both

    def right(trial: Trial, number: int) -> Right:
        folder = kept / f"{number}-{trial.number:03d}"
        found = _confirmed(federate, trial.options, number, folder, len(folds[number].validation))
        on_confirmation()
        return found

    met = [(right(by_hand, number), right(best, number)) for number in range(1, len(folds))]
    first, second = zip(*met, strict=True)
    comparison = PairedComparison.of(np.concatenate(first), np.concatenate(second))
    if comparison.verdict == "better":
        return TuneResult(found, best, comparison)
    unchanged = conclude("tune", trials, Limits(), "accuracy", lambda some: some[0])
    return TuneResult(unchanged, best, comparison)


def most_accurate(trials: Sequence[Trial]) -> Trial | None:
    """The trial of the highest accuracy, of equal ones the earlier; None where all failed."""
    scored = [trial for trial in trials if trial.outcome is not None]
    return max(scored, key=lambda one: (_score(one), -one.number), default=None)


def describe_tuning(result: TuneResult) -> str:
    """What was found, against what was set by hand, in one line."""
    search, best, met = result.search, result.best, result.confirmation
    count = len(search.trials)
    if best is search.trials[0]:
        return f"the hand-set options, {percent(_score(best))}, are the best of {count} trials"
    text = f"trial {best.number} of {count}, {percent(_score(best))}, is the best"
    if met is None:
        return f"{text}; the hand-set options failed: {search.trials[0].reason}"
    low, high = met.interval
    text += (
        f" (set by hand: {percent(_score(search.trials[0]))}); on {met.examples} other public"
        f" examples {100 * met.gained / met.examples:+.1f} points (95% interval {100 * low:+.1f} to"
        f" {100 * high:+.1f})"
    )
    verdict = "chosen" if result.changed else "no gain beyond chance, nothing is changed"
    return f"{text}: {verdict}"


def _confirmed(
    federate: Federate, options: Options, number: int, folder: Path, examples: int
) -> Right:
    """What a federation gets right on another fold; kept, so that it is run once.

    One that fails gets nothing right.
    """
    path = folder / CORRECT_FILE
    if path.exists():
        kept: Right = np.load(path)
        return kept
    shutil.rmtree(folder, ignore_errors=True)  # of one that was broken off
    folder.mkdir(parents=True)
    try:
        right = federate(options, number, folder)
    except FedliteError as error:
        log.warning("tune: a federation on public part %d failed: %s", number, error)
        right = np.zeros(examples, dtype=np.bool_)
    buffer = BytesIO()
    np.save(buffer, right)
    write_whole(path, buffer.getvalue())
    return right


def _score(trial: Trial) -> float:
    assert trial.outcome is not None
    assert trial.outcome.accuracy is not None
    return trial.outcome.accuracy
