"""Every picture can be read whatever its numbers are: nothing collides, nothing is cut off."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedlite.report import charts, pareto
from fedlite.report.drawing import CURVES
from fedlite.report.write import round_entry
from tests.report.runs import finished_report, round_record

LEVELS = {"teacher": 0.93, "public_student": 0.8}
LONG = [f"a rather long name of class {index}" for index in range(40)]


def history(rounds: int, accuracy: float | None = None, epsilon: float | None = None) -> list[Any]:
    """Rounds whose last accuracy and epsilon may be given; then all clients spend the same."""
    entries: list[Any] = [
        round_entry(round_record(number, rounds=rounds)) for number in range(1, rounds + 1)
    ]
    for entry in entries:
        if accuracy is not None:
            entry["evaluation"]["accuracy"] = accuracy
        if epsilon is not None:
            spent = epsilon * math.sqrt(entry["round"] / rounds)
            entry["epsilon"] = dict.fromkeys(("min", "mean", "p95", "max"), spent)
    return entries


def equal_files() -> Any:
    """A report in which every file is as good and as costly as the next."""
    report = finished_report()
    for entry in (*report["models"].values(), *report["artefacts"]):
        if "bytes" in entry:
            latency = {"p50": 0.05, "p95": 0.06, "min": 0.04}
            entry |= {"accuracy": 0.85, "bytes": 24_000, "latency_ms_by_batch": {"1": latency}}
    return report


def by_epsilon(*epsilons: float, curves: int = 1) -> Figure:
    points = [(epsilon, 0.7 + 0.01 * place) for place, epsilon in enumerate(epsilons)]
    return charts.accuracy_against_epsilon({f"c{n}": points for n in range(curves)}, 0.8, 0.9)


def planned(rounds: int, *last: float) -> Figure:
    numbers = list(range(1, rounds + 1))
    curves = {
        f"plan {epsilon}": [epsilon * number / rounds for number in numbers] for epsilon in last
    }
    return charts.planned_epsilon(numbers, curves, list(curves)[:1])


PICTURES: dict[str, Callable[[], Figure]] = {
    **{
        f"{rounds} rounds": lambda rounds=rounds: charts.accuracy_by_round(
            history(rounds), LEVELS, tests=360
        )
        for rounds in (1, 2, 13, 1000)
    },
    "all equal": lambda: charts.accuracy_by_round(history(5, accuracy=0.8), {"teacher": 0.8}),
    "all right": lambda: charts.accuracy_by_round(history(5, accuracy=1.0), {}, tests=100_000),
    **{
        f"epsilon {epsilon}": lambda epsilon=epsilon: charts.epsilon_by_round(
            history(9, epsilon=epsilon), 2 * epsilon
        )
        for epsilon in (1e-4, 8.0, 3e6)
    },
    "epsilon of one round": lambda: charts.epsilon_by_round(history(1), 8.0),
    "epsilons close together": lambda: by_epsilon(*(1 + 0.01 * step for step in range(20))),
    "epsilons far apart": lambda: by_epsilon(1e-3, 1, 1.1, 1e6, curves=6),
    "one epsilon": lambda: by_epsilon(4.0),
    "a plan of one round": lambda: planned(1, 8.0, 8.0),
    "plans far apart": lambda: planned(30, 1e-3, 1e6),
    "plans close together": lambda: planned(2, 7.91, 7.92),
    "two classes": lambda: charts.confusion_matrix([[30, 2], [1, 40]], ["benign", "malignant"]),
    "forty classes": lambda: charts.confusion_matrix(np.eye(40, dtype=int), LONG),
    "names of money": lambda: charts.confusion_matrix(
        np.eye(3, dtype=int), ["under $5", r"$5 to \$10$", "a_b^c\nd"]
    ),
    "one client": lambda: charts.partition_heatmap([[3, 1]], ["a", "b"]),
    "a thousand clients": lambda: charts.partition_heatmap(np.ones((1000, 40), int), LONG),
    "seconds": lambda: charts.accuracy_by_simulated_time([(0.5, 0.8), (0.9, 0.82)], LEVELS),
    "days": lambda: charts.accuracy_by_simulated_time([(1e5, 0.8), (1e6, 0.82)], LEVELS),
    "equal files by latency": lambda: pareto.accuracy_against_latency(equal_files()),
    "files by bytes": lambda: pareto.accuracy_against_bytes(finished_report()),
}


@pytest.mark.parametrize("name", PICTURES)
def test_ticks_do_not_meet_and_no_word_is_cut_off(name: str) -> None:
    figure = PICTURES[name]()
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    whole = figure.bbox.padded(1)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown = [
                tick.label1
                for tick in axis.get_major_ticks()
                if low <= tick.get_loc() <= high and tick.label1.get_visible()
            ]
            upright = [label for label in shown if label.get_rotation() == 0]
            boxes = [label.get_window_extent(renderer) for label in upright]
            assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
            assert len({label.get_text() for label in shown}) == len(shown)
        for text in (axes.title, axes._left_title, axes.xaxis.label, *axes.texts):
            if text.get_text() and text.get_visible():
                box = text.get_window_extent(renderer)
                assert whole.x0 <= box.x0, text.get_text()
                assert box.x1 <= whole.x1, text.get_text()


def test_rounds_are_whole_numbers() -> None:
    (axes,) = PICTURES["1 rounds"]().axes
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_an_accuracy_has_its_interval_and_no_axis_is_finer_than_two_points() -> None:
    figure = charts.accuracy_by_round(history(20, accuracy=0.8001), {}, tests=360)
    (axes,) = figure.axes
    (interval,) = axes.collections
    low, high = interval.get_datalim(axes.transData).intervaly
    assert (low, high) == pytest.approx((0.756, 0.838), abs=1e-3)
    nearly = [*history(1, accuracy=0.8), *history(2, accuracy=0.8001)[1:]]
    (axes,) = charts.accuracy_by_round(nearly, {}).axes
    assert np.ptp(axes.get_ylim()) == pytest.approx(0.02)


def test_a_band_that_nobody_could_see_is_not_in_the_legend() -> None:
    def legend(figure: Figure) -> list[str]:
        return [text.get_text() for text in figure.legends[0].get_texts()]

    assert legend(charts.epsilon_by_round(history(9, epsilon=8.0), 8.0)) == [
        "every client",
        "budget 8",
    ]
    assert "all clients" in legend(charts.epsilon_by_round(history(9), 8.0))


def test_infinite_epsilons_and_a_budget_out_of_sight_are_said_in_words() -> None:
    entries = history(9, epsilon=1.0)
    for entry in entries[4:]:
        entry["epsilon"] = dict.fromkeys(entry["epsilon"])  # as report.json holds infinity
    (axes,) = charts.epsilon_by_round(entries, 1000.0).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1, 2, 3, 4]
    words = " ".join(text.get_text() for text in axes.texts)
    assert "the budget of 1,000 lies far above" in words
    assert "rounds without a point: infinite" in words


def test_curves_differ_in_more_than_their_colour() -> None:
    (axes,) = by_epsilon(1, 2, curves=len(CURVES)).axes
    lines = [line for line in axes.lines if line.get_marker() not in ("", "None")]
    assert len({line.get_marker() for line in lines}) == len(CURVES)
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == len(CURVES)
