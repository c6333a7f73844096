"""Charts: each draws what it was given, at any size, and is not blank."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fedlite.report import charts, drawing
from tests.report.runs import CLASSES, CONFUSION


def words(figure: Figure) -> list[str]:
    """Every text in a figure."""
    return [text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text"))]


def colours(figure: Figure) -> int:
    """Number of different colours in the rendered picture."""
    pixels = drawing.figure_pixels(figure)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    return len(np.unique(pixels.reshape(-1, 3), axis=0))


@pytest.mark.parametrize(("clients", "classes"), [(1, 2), (10, 10), (100, 10), (1000, 62)])
def test_partition_heatmap_at_any_size(clients: int, classes: int) -> None:
    counts = np.random.default_rng(0).integers(0, 50, (clients, classes))
    names = [f"a rather long name of class {index}" for index in range(classes)]
    figure = charts.partition_heatmap(counts, names)
    bars, cells = figure.axes[:2]
    assert "simulation only" in bars.get_title(loc="left")
    assert bars.patches[0].get_data().values.tolist() == counts.sum(axis=1).tolist()
    assert np.array_equal(cells.images[0].get_array(), counts.T)
    assert colours(figure) > 20


def test_confusion_matrix_shows_counts_and_classes() -> None:
    figure = charts.confusion_matrix(CONFUSION, CLASSES)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == CLASSES
    assert words(figure).count("30") == 10
    assert any("300 of" in text for text in words(figure))
    assert colours(figure) > 20


def test_confusion_matrix_of_a_class_without_examples() -> None:
    figure = charts.confusion_matrix([[3, 1], [0, 0]], ["a", "b"])
    assert figure.axes[0].images[0].get_array()[1].tolist() == [0, 0]


def test_accuracy_by_round_skips_rounds_without_evaluation(report: dict[str, Any]) -> None:
    history = report["history"]
    history[4]["evaluation"] = None
    figure = charts.accuracy_by_round(history, {"teacher": 0.93, "public_student": 0.8})
    teacher, public, student = figure.axes[0].lines
    assert list(teacher.get_ydata()) == [0.93, 0.93]
    assert list(public.get_ydata()) == [0.8, 0.8]
    assert 5 not in student.get_xdata()
    assert len(student.get_xdata()) == 19
    assert colours(figure) > 20


def test_macro_f1_can_be_drawn_instead(report: dict[str, Any]) -> None:
    figure = charts.accuracy_by_round(report["history"], {}, metric="macro_f1")
    (line,) = figure.axes[0].lines
    assert line.get_ydata()[-1] == pytest.approx(0.85)


def test_epsilon_by_round_shows_the_worst_client_and_the_budget(report: dict[str, Any]) -> None:
    figure = charts.epsilon_by_round(report["history"], 8.0)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    mean, highest, budget = (lines[name] for name in ("mean", "largest of a client", "budget 8"))
    assert highest.get_ydata()[-1] == pytest.approx(7.92)
    assert mean.get_ydata()[-1] < 7.92
    assert list(budget.get_ydata()) == [8.0, 8.0]


def test_accuracy_against_epsilon_averages_seeds() -> None:
    curves = {"local": [(1, 0.80), (8, 0.86), (1, 0.82)]}
    figure = charts.accuracy_against_epsilon(curves, 0.8, 0.88)
    curve = figure.axes[0].lines[-1]
    assert list(curve.get_xdata()) == [1, 8]
    assert curve.get_ydata()[0] == pytest.approx(0.81)
    both = {"local": [(1, 0.8)], "aggregate": [(3, 0.9)]}
    assert len(charts.accuracy_against_epsilon(both, 0.8, None).axes[0].lines) == 3


def test_save_figure_writes_a_whole_png_into_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "banner.png"
    drawing.save_figure(charts.not_private_banner("because"), path)
    with Image.open(path) as image:
        image.verify()
        assert image.format == "PNG"
    assert [file.name for file in path.parent.iterdir()] == ["banner.png"]
