"""What is delivered: the cheapest within the limits, else the nearest, and the words for it."""

import dataclasses

import pytest

from fedlite.base.errors import FedliteError
from fedlite.search.result import (
    SearchResult,
    cheapest,
    conclude,
    difference,
    one_line,
    smallest_accurate,
)
from fedlite.search.trials import Limits, Outcome, Trial

LIMITS = Limits(latency_ms=0.2, bytes=50_000, reference_accuracy=0.9, max_accuracy_drop=0.02)


def trials(*outcomes: Outcome | None) -> list[Trial]:
    return [
        Trial(number, {}, {"point": number}, outcome, 1.0, "" if outcome else "no converter")
        for number, outcome in enumerate(outcomes)
    ]


TRIALS = trials(
    Outcome(0.15, 45_000, 0.90),
    None,
    Outcome(0.10, 48_000, 0.89),
    Outcome(0.12, 20_000, 0.70),
    Outcome(0.18, 30_000, 0.885),
    Outcome(0.18, 30_000, 0.886),
)


def concluded(some: list[Trial], limits: Limits, wanted: str = "bytes") -> SearchResult:
    return conclude(
        "compression",
        some,
        limits,
        wanted,
        lambda these: cheapest(these, limits, wanted),
    )


@pytest.mark.parametrize(("wanted", "number"), [("bytes", 5), ("latency_ms", 2)])
def test_the_cheapest_within_the_limits(wanted: str, number: int) -> None:
    result = concluded(TRIALS, LIMITS, wanted)
    assert result.reached
    assert result.chosen.number == number
    assert len(result.feasible) == 4
    assert len(result.failed) == 1


def test_the_course_is_the_best_choice_after_each_trial() -> None:
    over = trials(Outcome(0.1, 60_000, 0.9))
    later = [
        Trial(one.number + 1, one.genes, one.options, one.outcome, one.seconds) for one in TRIALS
    ]
    result = concluded(over + later, LIMITS)
    assert result.course == [None, 45_000, 45_000, 45_000, 45_000, 30_000, 30_000]


def test_out_of_reach_the_nearest_is_delivered_and_says_how_near() -> None:
    result = concluded(TRIALS, Limits(0.2, 10_000, 0.9, 0.02))
    assert not result.reached
    assert result.chosen.number == 4
    assert "nearest, trial 4, has 30.0 kB where 10.0 kB is the limit" in one_line(result)


def test_every_overrun_limit_is_named() -> None:
    result = concluded(trials(Outcome(0.4, 20_000, 0.85)), Limits(0.2, 10_000, 0.9, 0.02))
    text = one_line(result)
    for words in ("0.4 ms where 0.2 ms", "20.0 kB where 10.0 kB", "5 points lost where 2 points"):
        assert words in text


def test_one_line_compares_with_what_was_set_by_hand() -> None:
    text = one_line(concluded(TRIALS, LIMITS))
    assert "trial 5 of 6 (4 within the limits): 30.0 kB, 0.18 ms, accuracy 88.6%" in text
    assert "set by hand: 45.0 kB, 0.15 ms, accuracy 90.0%" in text


def test_macro_f1_is_named_and_is_no_percentage() -> None:
    result = dataclasses.replace(concluded(TRIALS, LIMITS), metric="macro_f1")
    text = one_line(result)
    assert "macro-F1 0.886" in text
    assert "the difference: -0.014, 0.67x the bytes" in text
    nearest = concluded(trials(Outcome(0.4, 20_000, 0.85)), Limits(0.2, 10_000, 0.9, 0.02))
    over = one_line(dataclasses.replace(nearest, metric="macro_f1"))
    assert "0.05 of macro-F1 lost where 0.02 of macro-F1 is the limit" in over
    assert "accuracy" not in text + over


def test_all_failed_is_an_error_with_the_first_reason() -> None:
    with pytest.raises(FedliteError, match="all trials failed; the first one: no converter"):
        concluded(trials(None, None), LIMITS)


def test_students_are_chosen_by_parameters_near_the_best_accuracy() -> None:
    some = trials(
        Outcome(0.1, 9_000, 0.900, parameters=2_000),
        Outcome(0.1, 5_000, 0.890, parameters=1_000),
        Outcome(0.1, 4_000, 0.889, parameters=900),  # too far below the best
        Outcome(0.1, 60_000, 0.950, parameters=10_000),  # over the limit
        Outcome(0.1, 6_000, 0.895, parameters=1_000),  # the same number, a larger file
    )
    chosen = smallest_accurate(some, Limits(bytes=50_000), max_drop=0.01)
    assert chosen is not None
    assert chosen.number == 1
    assert smallest_accurate(some, Limits(bytes=10), max_drop=0.01) is None


def test_out_of_reach_what_kept_its_accuracy_comes_first() -> None:
    """A smaller file that lost too much would not ship."""
    lossy_and_small = trials(Outcome(0.1, 60_000, 0.9), Outcome(0.1, 10_500, 0.87))
    assert concluded(lossy_and_small, Limits(0.2, 10_000, 0.9, 0.02)).chosen.number == 0
    all_lossy = trials(Outcome(0.1, 60_000, 0.8), Outcome(0.1, 10_500, 0.87))
    assert concluded(all_lossy, Limits(0.2, 10_000, 0.9, 0.02)).chosen.number == 1


def test_the_difference_is_told_in_every_respect() -> None:
    by_hand = Outcome(0.1, 40_000, 0.85, parameters=10_000)
    found = Outcome(0.05, 30_000, 0.862, parameters=4_000)
    words = "+1.2 points, 0.75x the bytes, 0.50x the latency, 0.40x the parameters"
    assert difference(found, by_hand, "accuracy") == words
    untrained = Outcome(0.05, 30_000, None, parameters=4_000)
    assert difference(untrained, by_hand, "accuracy").startswith(
        "accuracy not known, 0.75x the bytes"
    )


@pytest.mark.parametrize("bytes_limit", [50_000, 10])
def test_what_was_set_by_hand_can_be_chosen(bytes_limit: int) -> None:
    limits = Limits(bytes=bytes_limit)
    result = concluded(trials(Outcome(0.1, 9_000, 0.9), Outcome(0.2, 9_500, 0.8)), limits)
    assert result.chosen is result.trials[0]
    assert "set by hand" in one_line(result)
    assert "difference" not in one_line(result)
