"""The loop: evolution finds what is there, breaks off and goes on, and survives failed trials."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from fedlite.base.errors import FedliteError
from fedlite.search.harness import Budget, Space, run_trials
from fedlite.search.trials import Choice, Limits, Options, Outcome, Trial

from .toy import LIMITS, POINTS, SPACE, evaluate


def search(
    directory: Path,
    trials: int,
    *,
    seed: int = 0,
    identity: str = "toy",
    population: int = 10,
    space: Space = SPACE,
) -> list[Trial]:
    return run_trials(
        space, evaluate, LIMITS, Budget(trials, population), directory, identity, seed
    )


def points(trials: list[Trial]) -> list[Options]:
    return [trial.options for trial in trials]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """A search that goes on until the space is used up."""
    return search(tmp_path_factory.mktemp("everything"), 1000)


def test_the_first_trial_is_the_one_set_by_hand(tmp_path: Path) -> None:
    assert search(tmp_path, 1)[0].options == SPACE.first


def test_points_given_to_follow_it_are_tried_next_once_each(tmp_path: Path) -> None:
    assert SPACE.first is not None
    then = [SPACE.first, SPACE.first | {"ratio": 0.0}, SPACE.first | {"ratio": 0.6}]
    space = dataclasses.replace(SPACE, then=then)
    whole = search(tmp_path / "whole", 6, space=space)
    assert [options["ratio"] for options in points(whole)[1:3]] == [0.0, 0.6]
    for end in (2, 6):
        broken = search(tmp_path / "broken", end, space=space)
    assert points(broken) == points(whole)


def test_no_point_is_tried_twice_and_a_used_up_space_ends_the_search(
    everything: list[Trial],
) -> None:
    assert len(everything) == POINTS
    assert len({tuple(sorted(trial.options.items())) for trial in everything}) == POINTS


def test_evolution_turns_to_what_keeps_to_the_limits(tmp_path: Path) -> None:
    shares = []
    for seed in range(3):
        trials = search(tmp_path / str(seed), 30, seed=seed)
        feasible = [LIMITS.feasible(trial) for trial in trials]
        shares.append((sum(feasible[:10]), sum(feasible[10:20]) + sum(feasible[20:30])))
    assert sum(later for _, later in shares) > 2.5 * sum(first for first, _ in shares)


def test_a_broken_off_search_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", 30)
    for end in (1, 4, 10, 17, 30):
        broken = search(tmp_path / "broken", end)
    assert points(broken) == points(whole)
    assert [trial.outcome for trial in broken] == [trial.outcome for trial in whole]


def test_interrupted_in_a_trial_the_finished_ones_are_kept(tmp_path: Path) -> None:
    calls = itertools.count()

    def interrupted(options: Options, folder: Path) -> Outcome:
        if next(calls) == 7:
            (folder / "half").write_text("")
            raise KeyboardInterrupt
        return evaluate(options, folder)

    with pytest.raises(KeyboardInterrupt):
        run_trials(SPACE, interrupted, LIMITS, Budget(12, 4), tmp_path, "toy", 0)
    new: list[int] = []
    trials = run_trials(
        SPACE,
        evaluate,
        LIMITS,
        Budget(12, 4),
        tmp_path,
        "toy",
        0,
        on_trial=lambda trial: new.append(trial.number),
    )
    assert new == [7, 8, 9, 10, 11]
    assert points(trials) == points(search(tmp_path / "whole", 12, population=4))
    assert [path.name for path in (tmp_path / "trials" / "007").iterdir()] == ["file"]


def test_another_identity_starts_anew(tmp_path: Path) -> None:
    search(tmp_path, 12)
    trials = search(tmp_path, 2, identity="other")
    assert len(trials) == 2
    assert sorted(path.name for path in (tmp_path / "trials").iterdir()) == ["000", "001"]


def test_a_failed_trial_is_kept_with_its_reason(everything: list[Trial]) -> None:
    failed = [trial for trial in everything if trial.outcome is None]
    assert {trial.reason for trial in failed} == {"float16 is not to be had"}
    assert {trial.options["ratio"] for trial in failed} == {0.55, 0.6}
    assert not any(LIMITS.feasible(trial) for trial in failed)


def test_a_whole_population_of_failures_ends_the_search(tmp_path: Path) -> None:
    def fail(options: Options, folder: Path) -> Outcome:
        raise FedliteError("no converter")

    with pytest.raises(FedliteError, match="first 3 trials all failed; the first one: no conv"):
        run_trials(SPACE, fail, LIMITS, Budget(50, 3), tmp_path, "toy", 0)


def test_other_errors_are_not_swallowed(tmp_path: Path) -> None:
    def broken(options: Options, folder: Path) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_trials(SPACE, broken, LIMITS, Budget(3, 2), tmp_path, "toy", 0)


def test_time_ends_the_search_after_the_running_trial(tmp_path: Path) -> None:
    clock = itertools.count(step=2).__next__  # every trial takes two seconds

    def timed(max_seconds: float) -> int:
        budget = Budget(20, 4, max_seconds)
        return len(run_trials(SPACE, evaluate, LIMITS, budget, tmp_path, "toy", 0, clock=clock))

    assert timed(5.0) == 3
    assert timed(5.0) == 3  # what was spent before counts
    assert timed(9.0) == 5


def test_time_never_prevents_the_first_trial(tmp_path: Path) -> None:
    budget = Budget(20, 4, max_seconds=1e-9)
    assert len(run_trials(SPACE, evaluate, LIMITS, budget, tmp_path, "toy", 0)) == 1


def test_trials_that_were_not_trained_have_no_accuracy_and_are_not_feasible(
    tmp_path: Path,
) -> None:
    limits = Limits(bytes=25_000)

    def costs_only(options: Options, folder: Path) -> Outcome:
        outcome = evaluate({**options, "quantization": "static"}, folder)
        known = None if limits.shortfall(outcome) else outcome.accuracy
        return Outcome(outcome.latency_ms, outcome.bytes, known)

    trials = run_trials(SPACE, costs_only, limits, Budget(20, 5), tmp_path, "toy", 0)
    untrained = [one for one in trials if one.outcome and one.outcome.accuracy is None]
    assert untrained
    assert len(untrained) < len(trials)
    assert not any(limits.feasible(trial) for trial in untrained)


def test_a_space_of_one_point(tmp_path: Path) -> None:
    space = Space(
        {"ratio": [0.5], "quantization": ["none"]}, lambda genes: dict(genes), SPACE.objectives
    )
    trials = run_trials(space, evaluate, LIMITS, Budget(10, 2), tmp_path, "one", 0)
    assert points(trials) == [{"ratio": 0.5, "quantization": "none"}]


def test_a_damaged_file_of_trials_is_named(tmp_path: Path) -> None:
    search(tmp_path, 2)
    (tmp_path / "trials.json").write_text('{"identity": "toy", "trials": [{"number": 0}]}')
    with pytest.raises(FedliteError, match=r"trials\.json.*delete it"):
        search(tmp_path, 3)


def test_a_candidate_from_outside_is_tried_first_and_kept_on_resuming(tmp_path: Path) -> None:
    def judged(options: Options, folder: Path) -> Outcome:
        return Outcome(0.1, 20_000, 0.9) if options == outside else evaluate(options, folder)

    outside: Options = {"student": "hand-set"}
    space = dataclasses.replace(SPACE, first=outside)
    found = {}
    for ends in ((20,), (1, 9, 20)):
        for end in ends:
            trials = run_trials(
                space, judged, LIMITS, Budget(end, 5), tmp_path / str(ends), "toy", 0
            )
        found[ends] = points(trials)
    assert found[20,] == found[1, 9, 20]
    assert (trials[0].options, trials[0].genes) == (outside, {})
    assert all(trial.options.keys() <= SPACE.choices.keys() for trial in trials[1:])


def test_hopeless_points_are_passed_over(tmp_path: Path) -> None:
    def hopeless(options: Options) -> bool:
        return float(options["ratio"]) < 0.4

    space = dataclasses.replace(SPACE, first=None, hopeless=hopeless)
    limits = Limits(bytes=25_000)
    trials = run_trials(space, evaluate, limits, Budget(1000, 5), tmp_path, "toy", 0)
    assert len(trials) == 5 * 3 * 2  # ratios from 0.4 to 0.6
    assert not any(hopeless(trial.options) for trial in trials)


def test_where_nothing_is_within_the_limits_hopeless_points_tell_how_near_one_comes(
    tmp_path: Path,
) -> None:
    space = dataclasses.replace(SPACE, first=None, hopeless=lambda options: True)
    limits = Limits(bytes=1)
    trials = run_trials(space, evaluate, limits, Budget(12, 5), tmp_path, "toy", 0)
    assert len({tuple(trial.options.items()) for trial in trials}) == 12


def test_a_proposal_does_not_look_for_ever_for_a_point_that_is_not_hopeless(
    tmp_path: Path,
) -> None:
    values: list[Choice] = list(range(10_000))
    asked = []

    def hopeless(options: Options) -> bool:
        asked.append(options)
        return True

    space = dataclasses.replace(
        SPACE, choices={**SPACE.choices, "recovery_steps": values}, first=None, hopeless=hopeless
    )
    trials = run_trials(space, evaluate, LIMITS, Budget(2, 5), tmp_path, "toy", 0)
    assert len(trials) == 2
    assert len(asked) < 500
