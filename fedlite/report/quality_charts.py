"""Pictures of how sure models are, and of what asking the teacher brings."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedlite.base.intervals import wilson_interval
from fedlite.report.drawing import (
    COLOURS,
    CURVES,
    GRID,
    INK,
    MUTED,
    band,
    blank_figure,
    curve,
    legend_below,
    level_line,
    number,
    percent_axis,
    style_axes,
)
from fedlite.report.quality import file_label
from fedlite.report.quality_sections import BinEntry
from fedlite.report.schema import Report
from fedlite.report.words import percent, tested_on


def reliability_diagram(report: Report) -> Figure:
    """Draw how often each file is right where it is so sure, and how often it is so sure.

    Args:
        report: the report dictionary (docs/report.md) with ``quality``.
    """
    figure = blank_figure(8, 5.6)
    main, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    words = f"bars: 95% intervals; {report['dataset']['test']:,} {tested_on(report)} examples"
    style_axes(main, "How sure, and how often right", "", "accuracy", words)
    style_axes(below, "", "confidence of the answer", "share of answers")
    even: dict[str, Any] = {"color": MUTED, "linewidth": 1.2, "linestyle": (0, (2, 2))}
    main.plot([0, 1], [0, 1], label="as right as sure", **even)
    for (name, entry), style in zip(report["quality"].items(), cycle(CURVES), strict=False):
        colour, marker, dashes = style
        bins = entry["bins"]
        x, y = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
        bounds = (wilson_interval(one["accuracy"], one["examples"]) for one in bins)
        low, high = zip(*bounds, strict=True)
        main.vlines(x, low, high, color=colour, alpha=0.45, linewidth=1.6)
        error = f"{100 * entry['calibration_error']:.1f}"
        label = f"{file_label(name, report)}: error {error} points"
        curve(main, x, y, colour, label, marker=marker, linestyle=dashes)
        curve(below, x, _shares(bins), colour, "", marker=marker, linestyle=dashes)
    for axes in (main, below):
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(_as_percent))
    main.set_ylim(0, 1.02)
    below.set_ylim(bottom=0)
    below.set_xlim(0, 1.01)
    below.xaxis.set_major_formatter(FuncFormatter(_as_percent))
    handles, labels = main.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, frameon=False, labelcolor=INK
    )
    return figure


def _shares(bins: Sequence[BinEntry]) -> list[float]:
    examples = sum(one["examples"] for one in bins)
    return [one["examples"] / examples for one in bins]


def _as_percent(value: float, _: object) -> str:
    return f"{100 * value:.4g}%"


def cascade_chart(report: Report) -> Figure:
    """Draw accuracy against the share that is sent to the teacher, and against what it costs.

    Args:
        report: the report dictionary (docs/report.md) with ``cascade`` and ``quality``.
    """
    found, tests = report["cascade"], report["dataset"]["test"]
    points, costs = found["test"], found["costs"]
    measured = report["quality"][found["student"]]["energy"]["measured"]
    shares = [100 * point["share"] for point in points]
    panels = {
        "% of inputs sent to the teacher": shares,
        f"milliseconds, with {found['round_trip_ms']:g} to the server and back": [
            one["milliseconds"] for one in costs
        ],
    }
    joules = [one["joules"] for one in costs if one["joules"] is not None]
    if len(joules) == len(costs):
        unit, size = ("mJ", 1e-3) if max(joules) >= 1e-4 else ("µJ", 1e-6)
        how = "measured" if measured else "an estimate"
        panels[f"{unit} of device and server ({how})"] = [one / size for one in joules]
    figure = blank_figure(3.9 * len(panels), 4.6)
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for place, (axes, (x_name, x)) in enumerate(zip(every, panels.items(), strict=True)):
        title = "" if place else "When to ask the teacher"
        words = "" if place else f"band: 95% interval, {tests:,} {tested_on(report)} examples"
        style_axes(axes, title, x_name, "" if place else "accuracy", words)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        _panel(axes, x, report, legend=place == 0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        percent_axis(axes)
    legend_below(figure, columns=2)
    return figure


def _panel(axes: Axes, x: Sequence[float], report: Report, *, legend: bool) -> None:
    """The curve over one axis of costs, the two models alone, and the threshold that was chosen."""
    found, tests = report["cascade"], report["dataset"]["test"]
    values = [point["accuracy"] for point in found["test"]]
    low, high = zip(*(wilson_interval(value, tests) for value in values), strict=True)
    colour, place = COLOURS["federated_student"], found["chosen"]
    order = sorted(range(len(x)), key=lambda one: x[one])
    band(axes, [x[i] for i in order], [low[i] for i in order], [high[i] for i in order], colour)
    line = "student first, teacher where it is unsure" if legend else ""
    curve(axes, [x[i] for i in order], [values[i] for i in order], colour, line, marker="")
    level_line(axes, values[-1], "teacher alone" if legend else "", "teacher")
    level_line(axes, values[0], "student alone" if legend else "", "public_student")
    label = ""
    if legend:
        sure = percent(min(1.0, found["test"][place]["threshold"]))
        label = f"chosen on public data: asked below {sure}"
    axes.plot(
        [x[place]],
        [values[place]],
        marker="D",
        markersize=8,
        color=COLOURS["limit"],
        linestyle="",
        label=label,
        zorder=4,
    )
