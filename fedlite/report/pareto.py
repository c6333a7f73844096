"""Which artefacts are worth having: the Pareto front, and its pictures."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from fedlite.base.intervals import wilson_interval
from fedlite.base.records import METRIC_NAMES, Metric, ModelKey
from fedlite.report.artefacts import all_entries, is_measured, latency_ms, may_ship
from fedlite.report.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    chart,
    log_ticks,
    percent_axis,
)
from fedlite.report.schema import ArtefactEntry, Report
from fedlite.report.words import (
    FORMAT_LABELS,
    human_bytes,
    metric_of,
    model_labels,
    score_text,
    tested_on,
)

FORMAT_COLOURS = {
    "torch": GREY,
    "onnx": BLUE,
    "litert": GREEN,
    "executorch": PURPLE,
    "coreml": ORANGE,
}
MARKERS = {"fp32": "o", "fp16": "s", "int8": "^", "int8 weights": "D", "int4 weights": "v"}
_OTHER_COLOUR, _OTHER_MARKER = SKY, "P"
_SIZE = 9.0  # of a marker, in points
_SHIFTS = [  # where a label is tried, in points from its marker: near first
    (round(distance * math.cos(angle)), round(distance * math.sin(angle)))
    for distance in (11, 20, 32, 46, 62)
    for angle in (math.pi * turn / 8 for turn in (2, 14, 10, 6, 0, 8, 4, 12, 1, 15, 9, 7))
]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point dominates, cheapest first.

    A point (cost, accuracy) dominates another if it costs no more, is no less accurate, and is
    better in one of the two. Equal points do not dominate each other.
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda one: (points[one][0], -points[one][1])):
        last = points[front[-1]] if front else None
        if last is None or points[index][1] > last[1] or points[index] == last:
            front.append(index)
    return front


def accuracy_against_bytes(report: Report) -> Figure:
    """Draw the test score against the bytes of each file; see :func:`accuracy_against_latency`."""
    return _picture(
        report,
        "size",
        "bytes of the file (logarithmic)",
        lambda entry: entry["bytes"],
        lambda value: human_bytes(value).replace(".0 ", " "),
    )


def accuracy_against_latency(report: Report) -> Figure:
    """Draw the test accuracy, or macro-F1, against the median latency of one example, with the
    Pareto front.

    Colours are formats, shapes precisions; files that were refused are hollow. The front is that
    of the files that may ship; teacher, public-only student and eager PyTorch are there to compare.

    Args:
        report: the report dictionary (docs/report.md) with ``models`` and ``artefacts``.
    """
    return _picture(
        report,
        "latency",
        "milliseconds for one example, median (logarithmic)",
        lambda entry: latency_ms(entry) or math.nan,
        lambda value: f"{value:.3g} ms",
    )


def _picture(
    report: Report,
    what: str,
    x: str,
    cost: Callable[[ArtefactEntry], float],
    shown: Callable[[float], str],
) -> Figure:
    metric = metric_of(report)
    name, y = METRIC_NAMES[metric], f"{tested_on(report)} {METRIC_NAMES[metric]}"
    if metric == "accuracy":
        y += f" (95% interval: ±{_sure(report):.1f} points or less)"
    figure, axes = chart(
        f"How costly: {name} against {what}",
        x,
        y,
        "up is better, left is cheaper; line: the best of what may ship (Pareto front)",
    )
    figure.set_size_inches(8, 5.6)
    entries = [one for one in all_entries(report) if is_measured(one)]
    points = list(zip(map(cost, entries), _heights(entries, metric), strict=True))
    shipping = [index for index, one in enumerate(entries) if may_ship(one)]
    front = [shipping[place] for place in pareto_front([points[index] for index in shipping])]
    if front:
        costs, accuracies = zip(*(points[index] for index in front), strict=True)
        axes.step(costs, accuracies, where="post", color=INK, linewidth=1.3, alpha=0.55, zorder=2)
    for entry, point in zip(entries, points, strict=True):
        _mark(axes, point, entry)
    axes.set_xscale("log")
    axes.margins(x=0.14, y=0.16)
    log_ticks(axes.xaxis, shown)
    percent_axis(axes)
    _explain(figure, entries)
    others = [index for index in range(len(entries)) if index not in front]
    labels_of = model_labels(report)
    words = [
        _name(entry, labels_of)
        + (f", {shown(point[0])}" if index in front else "")
        + (f", {score_text(entry[metric], metric)}" if point[1] > entry[metric] else "")
        for index, (entry, point) in enumerate(zip(entries, points, strict=True))
    ]
    labels = [(points[index], words[index], _colour(entries[index])) for index in (*front, *others)]
    _label(figure, axes, labels, [points[index] for index in front])
    return figure


def _sure(report: Report) -> float:
    """Half of the widest 95% interval (Wilson's) among the models' accuracies, in points."""
    tests = report["dataset"]["test"]
    bounds = (wilson_interval(one["accuracy"], tests) for one in report["models"].values())
    return 100 * max(high - low for low, high in bounds) / 2


def _colour(entry: ArtefactEntry) -> str:
    return FORMAT_COLOURS.get(entry["format"], _OTHER_COLOUR)


def _mark(axes: Axes, point: tuple[float, float], entry: ArtefactEntry) -> None:
    style: dict[str, Any] = {"linestyle": "none", "markersize": _SIZE, "zorder": 3}
    style |= {"color": _colour(entry), "marker": MARKERS.get(entry["precision"], _OTHER_MARKER)}
    if entry["refused"]:
        style["markerfacecolor"] = "white"
    else:
        style["markeredgecolor"] = "white"
    if not may_ship(entry):
        style["alpha"] = 0.55
    axes.plot(*point, **style)


def _heights(entries: Sequence[ArtefactEntry], metric: Metric) -> list[float]:
    """Where to draw each score: one that fell far below all others would flatten the rest."""
    sound = [one[metric] for one in entries if not one["refused"]]
    lowest = min(sound) - max(0.01, 0.15 * (max(sound) - min(sound)))
    return [max(one[metric], lowest) for one in entries]


def _name(entry: ArtefactEntry, labels: Mapping[ModelKey, str]) -> str:
    name = labels.get(entry["model"], entry["model"]).removeprefix("Student, ").lower()
    return f"{name}, eager" if entry["format"] == "torch" else name


def _explain(figure: Figure, entries: Sequence[ArtefactEntry]) -> None:
    """A legend of the formats (squares of their colour), precisions (shapes) and hollow marks."""
    formats = [one for one in FORMAT_LABELS if any(entry["format"] == one for entry in entries)]
    handles: list[Artist] = [
        Patch(color=FORMAT_COLOURS.get(one, _OTHER_COLOUR), label=FORMAT_LABELS[one])
        for one in formats
    ]
    for precision in dict.fromkeys(entry["precision"] for entry in entries):
        handles.append(_key(precision, MARKERS.get(precision, _OTHER_MARKER)))
    if any(entry["refused"] for entry in entries):
        handles.append(_key("refused", "o", hollow=True))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=5,
        frameon=False,
        labelcolor=INK,
        fontsize=9.5,
    )


def _key(label: str, marker: str, *, hollow: bool = False) -> Line2D:
    style: dict[str, Any] = {"markerfacecolor": "white" if hollow else INK, "markersize": 7}
    return Line2D([], [], color=INK, marker=marker, linestyle="none", label=label, **style)


def _label(
    figure: Figure,
    axes: Axes,
    wanted: Sequence[tuple[tuple[float, float], str, str]],
    front: Sequence[tuple[float, float]],
) -> None:
    """Write labels (point, text, colour) where they cover no marker, label, or step of ``front``.

    They come in the order of their weight; one that finds no free place is left out.
    """
    figure.draw_without_rendering()  # fixes the layout
    figure.set_layout_engine("none")
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    places = axes.transData.transform([point for point, _, _ in wanted])
    covered = [_around(x, y, _SIZE / 2 * figure.dpi / 72) for x, y in places]
    for (left, low), (right, high) in pairwise(axes.transData.transform(list(front))):
        covered.append(Bbox.from_extents(left, low - 1, right, low + 1))
        covered.append(Bbox.from_extents(right - 1, low, right + 1, high))
    room = axes.get_window_extent()
    labels: list[Bbox] = []
    leaders: list[Bbox] = []
    for (point, text, colour), (x, y) in zip(wanted, places, strict=True):
        for right, up in _SHIFTS:
            label = _written(axes, point, text, colour, (right, up))
            label.update_positions(renderer)
            box = Text.get_window_extent(label).padded(2)  # without its leader
            steps = [step * figure.dpi / 72 / 12 for step in range(3, 12)]
            leader = [_around(x + right * step, y + up * step, 1) for step in steps]
            inside = room.x0 < box.x0 and box.x1 < room.x1 and room.y0 < box.y0 and box.y1 < room.y1
            free = not _meet([box], [*covered, *labels, *leaders]) and not _meet(leader, labels)
            if inside and free:
                labels.append(box)
                leaders += leader
                break
            label.remove()


def _around(x: float, y: float, half: float) -> Bbox:
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _meet(some: Sequence[Bbox], others: Sequence[Bbox]) -> bool:
    return any(one.overlaps(other) for one in some for other in others)


def _written(
    axes: Axes, point: tuple[float, float], text: str, colour: str, shift: tuple[int, int]
) -> Annotation:
    right, up = shift
    leader = {"arrowstyle": "-", "color": colour, "alpha": 0.5, "linewidth": 0.8, "shrinkB": 5}
    return axes.annotate(
        text,
        point,
        xytext=shift,
        textcoords="offset points",
        ha="left" if right > 3 else "right" if right < -3 else "center",
        va="bottom" if up > 3 else "top" if up < -3 else "center",
        size=8.5,
        color=colour,
        arrowprops=leader if math.hypot(right, up) > 13 else None,
    )
