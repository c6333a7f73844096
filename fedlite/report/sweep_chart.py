"""The picture of a sweep: the students' scores against the options that were swept."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedlite.report.drawing import (
    COLOURS,
    CURVES,
    GRID,
    INK,
    blank_figure,
    legend_below,
    percent_axis,
    style_axes,
)

WIDE = 8.0  # values that span this factor or more are drawn on a logarithmic axis
PANELS, _ACROSS = 6, 3  # at most, and in a row: more would be too small to be read
_LETTER, _GAP = 0.085, 0.12  # inches: of a letter beside an axis, and between two labels


@dataclass(frozen=True)
class Point:
    """Jobs that differ in their seed at most: the values of the swept options, as they were typed,
    and the scores of the public-only and of the federated student with every seed."""

    values: Mapping[str, str]
    public: Sequence[float]
    federated: Sequence[float]


def scores_by_options(points: Sequence[Point], score: str) -> Figure | None:
    """Draw the scores of both students by the values of options, with their spread over seeds.

    The option of the most values goes across, numbers before words. A second option tells curves
    apart, by colour, marker and dashes; each combination of the others has a panel. None where that
    would be more than can be told apart.

    Args:
        points: one or more, all with values of the same options.
        score: what the scores are, such as ``test accuracy``.
    """
    values = {
        option: list(dict.fromkeys(point.values[option] for point in points))
        for option in points[0].values
    }
    across, *others = sorted(values, key=lambda one: (not _numbers(values[one]), -len(values[one])))
    others.sort(key=lambda option: -len(values[option]))
    told, fixed = others[:1], others[1:]
    panels: dict[str, list[Point]] = {}
    for point in points:
        panels.setdefault(_words(point, fixed), []).append(point)
    styles = dict(zip(dict.fromkeys(_words(one, told) for one in points), CURVES, strict=False))
    if len(panels) > PANELS or len(styles) < len({_words(one, told) for one in points}):
        return None
    columns = min(_ACROSS, len(panels))
    rows = -(-len(panels) // columns)
    width = 8.0 if columns == 1 else 4.2 * columns
    figure = blank_figure(width, 4.8 if rows == 1 else 3.6 * rows + 0.8)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    several = any(len(point.federated) > 1 for point in points)
    subtitle = "mean over seeds; bars: standard deviation" if several else ""
    if fixed:
        figure.suptitle(f"Sweep: {score}", x=0.02, ha="left", color=INK, weight="bold", size=13)
    for number, (name, some) in enumerate(panels.items()):
        axes, first = grid[number], number == 0
        y = score if number % columns == 0 else ""
        style_axes(axes, name or f"Sweep: {score}", across, y, subtitle)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        for words, style in styles.items():
            curve = [point for point in some if _words(point, told) == words]
            _draw(axes, curve, values[across], across, words, style, labelled=first)
        _scale(axes, values[across], width / columns)
    for axes in grid[len(panels) :]:
        axes.remove()
    percent_axis(grid[0])
    legend_below(figure, columns=2)
    return figure


def _words(point: Point, options: Sequence[str]) -> str:
    """The values of some options: ``epsilon=2, clip=1``."""
    return ", ".join(f"{option}={point.values[option]}" for option in options)


def _draw(
    axes: Axes,
    curve: Sequence[Point],
    values: Sequence[str],
    across: str,
    words: str,
    style: tuple[str, str, Any],
    *,
    labelled: bool,
) -> None:
    """One curve of each student; the public-only one is hollow and thin where there are several."""
    numbers = _numbers(values)
    place = dict(zip(values, numbers or range(len(values)), strict=True))
    colour, marker, dashes = style
    federated: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": dashes}
    public = federated | {"markerfacecolor": "white", "linewidth": 1.0, "alpha": 0.75}
    if not words:
        public = {"color": COLOURS["public_student"], "marker": "s", "linestyle": (3, (2, 2))}
    drawn = [(public, "public only", "public"), (federated, "federated", "federated")]
    for known, name, which in drawn:
        there = sorted(
            (place[point.values[across]], scores)
            for point in curve
            if (scores := getattr(point, which))
        )
        label = f"{name}, {words}" if words else name
        axes.errorbar(
            [x for x, _ in there],
            [statistics.mean(scores) for _, scores in there],
            yerr=[statistics.stdev(scores) if len(scores) > 1 else 0.0 for _, scores in there],
            capsize=3,
            label=label if labelled else "",
            **{"linewidth": 2} | known | ({} if numbers else {"linestyle": "none"}),
        )


def _scale(axes: Axes, values: Sequence[str], inches: float) -> None:
    """The values as they were typed along the axis, those that would meet left out or turned."""
    numbers = _numbers(values)
    room = (max(map(len, values)) * _LETTER + _GAP) / (0.8 * inches)  # of a label, in shares
    if not numbers:
        turned = room > 1 / len(values)
        axes.set_xticks(range(len(values)), list(values))
        if turned:
            axes.tick_params(axis="x", labelrotation=30)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.margins(x=0.15)
        return
    if min(numbers) > 0 and max(numbers) / min(numbers) >= WIDE:
        axes.set_xscale("log")
        axes.minorticks_off()
    places = axes.transAxes.inverted().transform(
        axes.transData.transform([(number, 0.5) for number in numbers])
    )[:, 0]
    kept: list[int] = []
    for index in sorted(range(len(numbers)), key=lambda one: numbers[one]):
        if not kept or places[index] - places[kept[-1]] >= room:
            kept.append(index)
    axes.set_xticks([numbers[one] for one in kept], [values[one] for one in kept])


def _numbers(values: Sequence[str]) -> list[float]:
    """The values as numbers; none where any is no number."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return []
