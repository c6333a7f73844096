"""Pictures of a search: pure functions from its result to matplotlib figures."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedlite.base.records import METRIC_NAMES
from fedlite.report.drawing import (
    COLOURS,
    GRID,
    INK,
    LEVELS,
    MUTED,
    blank_figure,
    chart,
    legend_below,
    log_ticks,
    percent_axis,
    style_axes,
)
from fedlite.report.pareto import pareto_front
from fedlite.report.words import human_bytes
from fedlite.search.result import SearchResult
from fedlite.search.trials import Outcome

WITHIN, OVER = COLOURS["federated_student"], MUTED
CHOSEN, DEFAULT = COLOURS["quantized_student"], COLOURS["public_student"]
DEPTH = 0.1  # of accuracy below the best: what fell further is drawn as an arrow down
TITLES = {"compression": "Search of compression options", "student": "Search of students"}
UNITS = {"bytes": "bytes", "latency_ms": "milliseconds", "parameters": "parameters"}


def search_trials(result: SearchResult) -> Figure:
    """Draw the accuracy (or macro-F1) of every trial against its latency and against its bytes.

    Blue are the trials within the limits, with their Pareto front; dashed lines are limits. Trials
    without an accuracy (failed, or too costly to be trained) are counted in words.
    """
    untrained = sum(
        trial.outcome is not None and trial.outcome.accuracy is None for trial in result.trials
    )
    words = [f"{len(result.trials)} trials, {len(result.feasible)} within the limits"]
    words += [f"{untrained} over them and not trained"] if untrained else []
    words += [f"{len(result.failed)} failed"] if result.failed else []
    figure = blank_figure(11, 5.2)
    left, right = figure.subplots(1, 2, sharey=True)
    accuracy = f"{METRIC_NAMES[result.metric]} on public validation data"
    style_axes(
        left,
        TITLES[result.kind],
        "milliseconds for one example (logarithmic)",
        accuracy,
        ", ".join(words),
    )
    style_axes(right, "", "bytes of the file (logarithmic)", "")
    limits = result.limits
    _scatter(left, result, "latency_ms", limits.latency_ms)
    _scatter(right, result, "bytes", limits.bytes)
    percent_axis(left)
    named = {
        label: handle
        for axes in (left, right)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        named.values(),
        named.keys(),
        loc="outside lower center",
        ncols=6,
        frameon=False,
        labelcolor=INK,
        fontsize=9.5,
    )
    return figure


def search_history(result: SearchResult) -> Figure:
    """Draw, trial by trial, the number that should be small, and the best choice so far."""
    figure, axes = chart(
        "What would be delivered after each trial",
        "trial",
        f"{UNITS[result.wanted]} (logarithmic)",
        "line: the best choice so far among the trials within the limits",
    )
    for label, colour, shape, within in _groups():
        some = [
            trial
            for trial in result.trials
            if trial.outcome is not None and result.limits.feasible(trial) is within
        ]
        values = [float(getattr(trial.outcome, result.wanted)) for trial in some]
        axes.plot([trial.number for trial in some], values, **_marks(colour, label, shape))
    course = [np.nan if value is None else value for value in result.course]
    axes.step(
        range(len(course)), course, where="post", color=CHOSEN, linewidth=2, label="best so far"
    )
    axes.set_yscale("log")
    log_ticks(axes.yaxis, _words(result.wanted))
    axes.set_xlim(-0.5, len(course) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_below(figure)
    return figure


def _scatter(axes: Axes, result: SearchResult, cost: str, limit: float | None) -> None:
    """Every trial with an accuracy: cost across, accuracy upwards."""

    def point(outcome: Outcome) -> tuple[float, float]:
        assert outcome.accuracy is not None  # only such are drawn
        return float(getattr(outcome, cost)), max(outcome.accuracy, floor)

    scored = [
        (trial.outcome, result.limits.feasible(trial))
        for trial in result.trials
        if trial.outcome is not None and trial.outcome.accuracy is not None
    ]
    best = max((outcome.accuracy or 0.0 for outcome, _ in scored), default=0.0)
    floor = best - DEPTH
    below = f"{METRIC_NAMES[result.metric]} below {100 * floor:.0f}%"
    for label, colour, shape, within in _groups():
        some = [outcome for outcome, feasible in scored if feasible is within]
        for marker, fallen in ((shape, False), ("v", True)):
            points = [point(one) for one in some if ((one.accuracy or 0.0) < floor) is fallen]
            name = f"{label}, {below}" if fallen else label
            if points:
                axes.plot(*zip(*points, strict=True), **_marks(colour, name, marker))
    within_limits = [point(outcome) for outcome, feasible in scored if feasible]
    front = [within_limits[index] for index in pareto_front(within_limits)]
    if front:
        axes.step(
            *zip(*front, strict=True), where="post", color=WITHIN, alpha=0.5, label="Pareto front"
        )
    dashes: dict[str, Any] = {
        "color": COLOURS["limit"],
        "linestyle": LEVELS["limit"],
        "label": "limit",
    }
    if limit is not None:
        axes.axvline(limit, **dashes)
    if (least := result.limits.least_accuracy) is not None and least > floor:
        axes.axhline(least, **dashes)
    marked = [(result.default, "set by hand", DEFAULT, "D"), (result.best, "chosen", CHOSEN, "*")]
    for outcome, label, colour, marker in marked:
        if outcome is not None and outcome.accuracy is not None:
            size = 17 if marker == "*" else 9
            style = _marks(colour, label, marker) | {"markersize": size, "zorder": 4}
            axes.plot(*point(outcome), **style)
    axes.set_xscale("log")
    axes.margins(x=0.08, y=0.08)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    log_ticks(axes.xaxis, _words(cost))


def _groups() -> tuple[tuple[str, str, str, bool], ...]:
    """Label, colour and marker of the trials over the limits and of those within, drawn in this
    order."""
    return ("over the limits", OVER, "X", False), ("within the limits", WITHIN, "o", True)


def _marks(colour: str, label: str, marker: str) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": marker,
        "markersize": 7,
        "color": colour,
        "markeredgecolor": "white",
        "label": label,
        "zorder": 3,
    }


def _words(unit: str) -> Callable[[float], str]:
    """How a cost stands beside its axis."""
    return _short_bytes if unit == "bytes" else "{:,.3g}".format


def _short_bytes(count: float) -> str:
    return human_bytes(count).replace(".0 ", " ")
