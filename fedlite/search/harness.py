"""The loop all searches share: NSGA-II proposes, a trial is made and measured, all is kept.

NSGA-II (Deb et al. 2002, *A fast and elitist multiobjective genetic algorithm*; here Optuna's) with
constrained domination: what keeps to the limits beats what does not, and of two that do not, the
one that is less far over wins.
"""

import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from fedlite.base.errors import FedliteError
from fedlite.privacy.randomness import derive_seed
from fedlite.search.trials import Choice, Limits, Options, Outcome, Trial, TrialFile

TRIALS_FILE = "trials.json"
TRIALS_FOLDER = "trials"
CHILDREN = 10  # that evolution may propose in vain, all of them known, before points are drawn
DRAWS = 5000  # known points in a row after which the space counts as used up
PASSES = 100  # points over a limit that one proposal passes over; then it takes one of them

_Key = frozenset[tuple[str, Choice]]  # of a point: its options
Direction = Literal["maximize", "minimize"]
OBJECTIVES: dict[str, Direction] = {  # numbers of an outcome
    "accuracy": "maximize",
    "latency_ms": "minimize",
    "bytes": "minimize",
}

Evaluate = Callable[[Options, Path], Outcome]
"""(the options that count, an empty folder for files) -> what the trial came to."""

OnTrial = Callable[[Trial], None]


@dataclass(frozen=True)
class Space:
    """What can be chosen, and what is wanted of it.

    ``choices`` holds the values of every option. ``simplify`` keeps, of a value for every option,
    those that make a difference; points that simplify to the same are one point, tried once.
    ``objectives`` are numbers of :class:`Outcome`, each to ``maximize`` or ``minimize``. ``first``
    is tried first; without it the first point is drawn like the others. It is a value for every
    option, or options that the space does not have: a candidate from outside, which is judged and
    may be delivered but has no descendants. ``then`` are tried after it, in their order, before
    anything is drawn. Points that are ``hopeless``, known to be beyond the limits before anything
    is made, are passed over while there seem to be others.
    """

    choices: Mapping[str, Sequence[Choice]]
    simplify: Callable[[Options], Options]
    objectives: Mapping[str, Direction]
    first: Options | None = None
    hopeless: Callable[[Options], bool] = lambda options: False
    then: Sequence[Options] = ()


@dataclass(frozen=True)
class Budget:
    """How long a search goes on; ``max_seconds`` is of all its trials, before a break too."""

    trials: int
    population: int
    max_seconds: float | None = None


def run_trials(
    space: Space,
    evaluate: Evaluate,
    limits: Limits,
    budget: Budget,
    directory: Path,
    identity: str,
    seed: int,
    on_trial: OnTrial | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Trial]:
    """Try points of ``space`` until the budget is spent or nothing is left that is worth a trial.

    After each trial ``directory/trials.json`` is written. A search with the same ``identity`` goes
    on where that file ends; every draw follows from (seed, trial), so that breaking off changes
    nothing but measured times. Files of trial 7 lie in ``directory/trials/007``; those of a search
    with another identity are removed.

    Args:
        space: what can be chosen.
        evaluate: makes and judges one point. A :class:`FedliteError` is a failed trial: it is kept
            with its reason, has no descendants, and the search goes on.
        limits: a trial beyond them counts as infeasible.
        budget: checked before each trial; the running one is never cut off.
        directory: made if missing.
        identity: a hash of all that decides the trials, but for the budget.
        seed: of all draws.
        on_trial: called with each new trial when it has been saved.
        clock: seconds.

    Raises:
        FedliteError: the first trials all failed, as many as a population has; ``trials.json`` is
            damaged or cannot be written.
    """
    saved = TrialFile.open(directory / TRIALS_FILE, identity)
    if not saved.trials:
        shutil.rmtree(directory / TRIALS_FOLDER, ignore_errors=True)
    evolution = _Evolution(space, limits, budget.population, seed)
    for trial in saved.trials:
        evolution.replay(trial)
    while len(saved.trials) < budget.trials:
        spent = sum(trial.seconds for trial in saved.trials)
        if budget.max_seconds is not None and saved.trials and spent >= budget.max_seconds:
            break
        number = len(saved.trials)
        if (proposal := evolution.propose(number)) is None:
            break
        folder = directory / TRIALS_FOLDER / f"{number:03d}"
        shutil.rmtree(folder, ignore_errors=True)  # of a trial that was broken off
        folder.mkdir(parents=True)
        start, reason, outcome = clock(), "", None
        try:
            outcome = evaluate(proposal.options, folder)
        except FedliteError as error:
            reason = str(error)
        trial = Trial(number, proposal.genes, proposal.options, outcome, clock() - start, reason)
        saved.add(trial)
        evolution.tell(proposal.asked, trial)
        if on_trial is not None:
            on_trial(trial)
        _stop_if_all_failed(saved.trials, budget.population)
    return saved.trials


def _stop_if_all_failed(trials: list[Trial], population: int) -> None:
    if len(trials) >= population and all(trial.outcome is None for trial in trials):
        raise FedliteError(
            f"search: the first {population} trials all failed; the first one: {trials[0].reason}"
        )


@dataclass(frozen=True)
class _Proposal:
    asked: optuna.Trial | None  # None: from outside the space
    genes: Options
    options: Options


class _Evolution:
    """NSGA-II over the trials so far, rebuilt from them: it holds no state of its own.

    Every proposal has a sampler with a seed of its own, and all options are categorical: a
    mutation draws a new value from all of them.
    """

    def __init__(self, space: Space, limits: Limits, population: int, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._limits, self._population = space, limits, population
        self._seed = seed
        self._genes: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(values) for name, values in space.choices.items()
        }
        self._study = optuna.create_study(directions=list(space.objectives.values()))
        self._known: set[_Key] = set()
        self._hopeless: dict[_Key, Options] = {}  # genes of points that were passed over
        self._reached = False  # whether a trial was within the limits

    def propose(self, number: int) -> _Proposal | None:
        """A point worth trying that is not known yet; None where there seems to be none left."""
        if number == 0 and (first := self._space.first) is not None:
            inside = first.keys() == self._genes.keys()
            return self._given(number, first) if inside else _Proposal(None, {}, first)
        for genes in self._space.then:
            if self._worth_trying(self._space.simplify(genes), genes):
                return self._given(number, genes)
        for attempt in range(CHILDREN):
            asked = self._ask(number, attempt)
            options = self._space.simplify(asked.params)
            if self._worth_trying(options, asked.params):
                return _Proposal(asked, asked.params, options)
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        draws = random.Random(derive_seed(self._seed, "search-draws", number))
        patience = len(self._hopeless) + PASSES
        for _ in range(DRAWS):
            genes = {name: draws.choice(values) for name, values in self._space.choices.items()}
            if self._worth_trying(self._space.simplify(genes), genes):
                return self._given(number, genes)
            if len(self._hopeless) == patience:
                break
        untried = [genes for key, genes in self._hopeless.items() if key not in self._known]
        if not untried or (self._reached and len(self._hopeless) < patience):
            return None
        return self._given(number, untried[-1])

    def replay(self, trial: Trial) -> None:
        """Take up a trial that was finished before."""
        asked = self._given(trial.number, trial.genes).asked if trial.genes else None
        self.tell(asked, trial)

    def tell(self, asked: optuna.Trial | None, trial: Trial) -> None:
        """Enter what a proposal came to; one that failed or is from outside is nobody's parent."""
        self._known.add(_key(trial.options))
        if asked is None:
            return
        if (outcome := trial.outcome) is None:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
            return
        excesses = self._limits.excess(outcome)
        self._reached |= not any(excess > 0 for excess in excesses.values())
        for name, excess in excesses.items():
            asked.set_constraint(name, excess)
        values = [getattr(outcome, name) for name in self._space.objectives]
        self._study.tell(asked, [0.0 if value is None else float(value) for value in values])

    def _worth_trying(self, options: Options, genes: Options) -> bool:
        key = _key(options)
        if key in self._known or key in self._hopeless:
            return False
        if self._space.hopeless(options):
            self._hopeless[key] = genes
            return False
        return True

    def _given(self, number: int, genes: Options) -> _Proposal:
        self._study.enqueue_trial(genes)
        return _Proposal(self._ask(number, 0), genes, self._space.simplify(genes))

    def _ask(self, number: int, attempt: int) -> optuna.Trial:
        self._study.sampler = optuna.samplers.NSGAIISampler(
            population_size=self._population,
            seed=derive_seed(self._seed, "search", number, attempt) % 2**32,
        )
        asked = self._study.ask(self._genes)
        # Optuna looks at its generations only when it needs them to draw; a point that was given
        # would else belong to none and never be a parent.
        _ = asked.relative_params
        return asked


def _key(options: Options) -> _Key:
    return frozenset(options.items())
