"""The Pareto front, and pictures that show every file without labels upon each other."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from fedlite.report import pareto
from fedlite.report.drawing import figure_pixels
from tests.report.runs import Report

DRAWN = (pareto.accuracy_against_bytes, pareto.accuracy_against_latency)
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """The definition: no worse in cost and accuracy, better in one."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(POINTS)
def test_the_front_is_all_that_nothing_dominates(points: list[tuple[int, int]]) -> None:
    front = pareto.pareto_front(points)
    best = [one for one in range(len(points)) if not any(dominates(p, points[one]) for p in points)]
    assert sorted(front) == best
    assert [points[one][0] for one in front] == sorted(points[one][0] for one in front)


def notes(figure: Figure) -> list[Annotation]:
    """The labels of the points; the subtitle is an annotation too."""
    found = figure.axes[0].findobj(Annotation)
    return [one for one in found if not one.get_text().startswith("up is better")]


@pytest.mark.parametrize("draw", DRAWN)
def test_every_measured_file_is_a_point(draw: Callable[[Report], Figure], report: Report) -> None:
    points = [line for line in draw(report).axes[0].lines if line.get_linestyle() == "None"]
    assert len(points) == 12
    hollow = [line for line in points if line.get_markerfacecolor() == "white"]
    assert len(hollow) == 1  # refused


@pytest.mark.parametrize("draw", DRAWN)
def test_no_label_covers_another(draw: Callable[[Report], Figure], report: Report) -> None:
    figure = draw(report)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [Text.get_window_extent(one, renderer) for one in notes(figure)]
    assert len(boxes) >= 10
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    room = figure.axes[0].get_window_extent()
    assert all(room.x0 < box.x0 and box.x1 < room.x1 for box in boxes)


def test_the_front_is_that_of_what_may_ship(report: Report) -> None:
    (front,) = [
        line
        for line in pareto.accuracy_against_bytes(report).axes[0].lines
        if line.get_linestyle() == "-"
    ]
    sizes = [22_300, 24_100, 63_000, 121_000]  # no teacher, no eager torch, nothing refused
    assert list(front.get_xdata()) == sizes
    assert list(front.get_ydata()) == pytest.approx([0.852, 0.855, 0.857, 0.861])


def test_labels_of_the_front_say_the_cost_and_of_the_fallen_the_accuracy(report: Report) -> None:
    shown = [one.get_text() for one in notes(pareto.accuracy_against_latency(report))]
    assert "quantized, 0.024 ms" in shown
    assert "quantized, 66.0%" in shown
    assert "teacher, eager" in shown


def test_a_file_that_fell_far_below_does_not_flatten_the_rest(report: Report) -> None:
    low, high = pareto.accuracy_against_bytes(report).axes[0].get_ylim()
    assert low > 0.7
    assert high > 0.93


def test_many_crowded_files_can_be_drawn(report: Report) -> None:
    entry = next(one for one in report["artefacts"] if one["name"] == "pruned_student.litert")
    report["artefacts"] += [
        entry | {"name": f"{index}", "accuracy": 0.85 + index / 1e4, "precision": f"int{index}"}
        for index in range(40)
    ]
    figure = pareto.accuracy_against_latency(report)
    assert len(np.unique(figure_pixels(figure).reshape(-1, 3), axis=0)) > 20
    labels = [Text.get_window_extent(one) for one in notes(figure)]
    assert not [pair for pair in combinations(labels, 2) if pair[0].overlaps(pair[1])]


def test_models_alone_can_be_drawn(report: Report) -> None:
    report["models"] = {"teacher": report["models"]["teacher"]}
    report["artefacts"] = []
    assert [one.get_text() for one in notes(pareto.accuracy_against_bytes(report))] == ["teacher"]
