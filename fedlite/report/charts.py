"""Pictures of a run: pure functions from numbers to matplotlib figures, without global state."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import isfinite
from textwrap import fill
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from fedlite.base.intervals import wilson_interval
from fedlite.base.records import METRIC_NAMES, Metric, ModelKey
from fedlite.report.audit_sections import UnitName
from fedlite.report.drawing import (
    COLOURS,
    CURVES,
    INK,
    band,
    blank_figure,
    chart,
    colour_bar,
    curve,
    legend_below,
    level_line,
    log_ticks,
    number,
    percent_axis,
    round_axis,
    spaced,
    style_axes,
)
from fedlite.report.schema import EpsilonsOfRound, RoundEntry
from fedlite.report.words import MODEL_LABELS, NOT_PRIVATE

LEVELS: tuple[ModelKey, ...] = ("teacher", "public_student")  # drawn as levels beside the rounds
FEDERATED = "federated student"
_BLUES = LinearSegmentedColormap.from_list(
    "fedlite", ["#ffffff", "#dbeafe", "#60a5fa", "#2563eb", "#172554"]
)


def partition_heatmap(
    class_counts: Sequence[Sequence[int]] | NDArray[Any], class_names: Sequence[str]
) -> Figure:
    """Draw how many examples of each class each client holds; for simulations only.

    Args:
        class_counts: (clients, classes) numbers of examples.
        class_names: one name for each class.
    """
    counts = np.asarray(class_counts)
    clients, classes = counts.shape
    figure = blank_figure(10, 2.4 + min(6.0, 0.34 * classes))
    top, main = figure.subplots(
        2, 1, sharex=True, height_ratios=[1, max(1.5, min(4.5, 0.3 * classes))]
    )
    style_axes(
        top,
        "Which client holds which classes (simulation only)",
        "",
        "examples",
        f"{clients:,} clients, {int(counts.sum()):,} private examples; in a real deployment nobody"
        " can see this",
    )
    edges = np.arange(clients + 1) - 0.5
    gaps = 0.5 if clients <= 100 else 0.0  # white lines between more bars than that hide them
    top.stairs(
        counts.sum(axis=1), edges, fill=True, color=_BLUES(0.55), edgecolor="white", linewidth=gaps
    )
    top.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    image = main.imshow(counts.T, aspect="auto", cmap=_BLUES, vmin=0, interpolation="nearest")
    style_axes(main, "", "client", "class")
    main.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    shown = range(0, classes, max(1, -(-classes // 24)))
    main.set_yticks(list(shown), [_short(class_names[index]) for index in shown], fontsize=8.5)
    if clients <= 30 and classes <= 20:
        _annotate(main, counts.T, 7 if counts.max() < 1000 else 6)
    colour_bar(figure, main, image, "examples")
    return figure


def _short(name: str, longest: int = 18) -> str:
    """A name in one line with both its ends, for long ones often differ in the last word alone;
    matplotlib would read what stands between two dollars as a formula."""
    name = " ".join(name.split())
    if len(name) > longest:
        tail = longest // 2
        name = f"{name[: longest - 1 - tail].rstrip()}…{name[-tail:].lstrip()}"
    return name.replace("$", r"\$")


def _annotate(
    axes: Axes, values: NDArray[Any], size: float, shade: NDArray[Any] | None = None
) -> None:
    shade = values / max(1, values.max()) if shade is None else shade
    for (row, column), value in np.ndenumerate(values):
        if value:
            colour = "white" if shade[row, column] > 0.5 else INK
            axes.text(column, row, f"{value}", ha="center", va="center", color=colour, size=size)


def confusion_matrix(
    confusion: Sequence[Sequence[int]] | NDArray[Any],
    class_names: Sequence[str],
    whose: str = FEDERATED,
) -> Figure:
    """Draw the confusion matrix: ``confusion[i][j]`` examples of true class i predicted as j by the
    student ``whose`` it is.

    Colours are shares of the true class; numbers are examples.
    """
    counts = np.asarray(confusion)
    classes = len(counts)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 3.2 + min(7.0, 0.42 * classes)
    figure = blank_figure(max(6.2, side + 1), side)
    axes = figure.subplots()
    right = int(np.trace(counts))
    subtitle = f"{whose}: {right:,} of {int(counts.sum()):,} right"
    style_axes(axes, "Confusion matrix", "predicted", "true", subtitle)
    image = axes.imshow(shares, cmap=_BLUES, vmin=0, vmax=1)
    shown = list(range(0, classes, max(1, -(-classes // 26))))
    names = [_short(class_names[index]) for index in shown]
    turned = max((len(name) for name in names), default=0) > 3
    axes.set_xticks(shown, names, rotation=45 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(shown, names)
    if classes <= 20:
        _annotate(axes, counts, 9 if classes <= 12 else 7, shares)
    bar = colour_bar(figure, axes, image, "share of the true class")
    bar.formatter = FuncFormatter(lambda value, _: f"{100 * value:.0f}%")
    return figure


def accuracy_by_round(
    history: Sequence[RoundEntry],
    baselines: Mapping[ModelKey, float],
    metric: Metric = "accuracy",
    tests: int | None = None,
    tested: str = "test",
) -> Figure:
    """Draw the federated student's metric by round against the models that it is judged by.

    Args:
        history: the report's ``history``; rounds without an evaluation are skipped.
        baselines: report key of a model -> its value of the metric, drawn as a level.
        metric: ``dataset.metric``.
        tests: number of examples that an accuracy is measured on, for its 95% interval (Wilson's).
        tested: what these examples are, as an adjective.
    """
    name = METRIC_NAMES[metric]
    points = [(one["round"], one["evaluation"][metric]) for one in history if one["evaluation"]]
    sure = tests if metric == "accuracy" else None
    title, y = f"How good: {tested} {name} by round", f"{tested} {name}"
    figure, axes = chart(title, "round", y, _measured_on(sure, tested))
    _against_levels(axes, points, baselines, sure)
    percent_axis(axes)
    round_axis(axes, max((number for number, _ in points), default=1))
    legend_below(figure)
    return figure


def _measured_on(tests: int | None, tested: str) -> str:
    return "" if tests is None else f"band: 95% interval, from {tests:,} {tested} examples"


def _against_levels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    baselines: Mapping[ModelKey, float],
    tests: int | None,
) -> None:
    """The federated student's values, with their intervals, and the levels beside them."""
    for key, value in baselines.items():
        level_line(axes, value, MODEL_LABELS[key], key)
    if points:
        x, values = zip(*points, strict=True)
        colour = COLOURS["federated_student"]
        if tests is not None:
            low, high = zip(*(wilson_interval(value, tests) for value in values), strict=True)
            band(axes, x, low, high, colour)
        curve(axes, x, values, colour, MODEL_LABELS["federated_student"])


def epsilon_by_round(
    history: Sequence[RoundEntry], budget: float | None, unit: UnitName = "example"
) -> Figure:
    """Draw the epsilon spent by round against the budget.

    ``unit`` example draws the largest over clients, and their spread where they differ; client the
    one of the releases. What is infinite has no place in it and is said in words; so is a budget
    that lies too far above to be drawn.
    """
    spent = _epsilons(history, unit)
    largest = max((epsilon["max"] for _, epsilon in spent), default=0.0)
    drawn = budget is not None and (not largest or budget <= _FAR * largest)
    words = []
    if budget is not None and not drawn:
        words.append(f"the budget of {number(budget)} lies far above")
    if len(spent) < sum(one[_KEYS[unit]] is not None for one in history):
        words.append("rounds without a point: infinite")
    title = "How private: epsilon spent by round"
    figure, axes = chart(title, "round", f"epsilon ({unit}-level)", "; ".join(words))
    colour = COLOURS["epsilon"]
    rounds = [number for number, _ in spent]
    highest = [epsilon["max"] for _, epsilon in spent]
    lowest = [epsilon["min"] for _, epsilon in spent]
    label = "of the releases" if unit == "client" else "every client"
    if max(map(float.__sub__, highest, lowest), default=0.0) > _SEEN * largest:
        label = "largest of a client"
        band(axes, rounds, lowest, highest, colour, "all clients")
        means = [epsilon["mean"] for _, epsilon in spent]
        curve(axes, rounds, means, colour, "mean", linewidth=1.4, linestyle=":", marker="")
    if spent:
        curve(axes, rounds, highest, colour, label)
    if budget is not None and drawn:
        level_line(axes, budget, f"budget {number(budget)}", "limit")
    axes.set_ylim(0, 1.06 * max(largest, budget if budget is not None and drawn else 0.0) or 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    round_axis(axes, max((one["round"] for one in history), default=1))
    legend_below(figure)
    return figure


_KEYS: dict[UnitName, Literal["epsilon", "client_level_epsilon"]] = {
    "example": "epsilon",
    "client": "client_level_epsilon",
}
_FAR = 5.0  # times what was spent: a budget beyond it would flatten the curve
_SEEN = 0.01  # of what was spent: a spread below it is no wider than the line


def _epsilons(history: Sequence[RoundEntry], unit: UnitName) -> list[tuple[int, EpsilonsOfRound]]:
    """The finite epsilons, by round; in a report that was read again, infinity is null."""
    found = []
    for one in history:
        epsilon, released = one["epsilon"], one["client_level_epsilon"]
        if unit == "client":
            epsilon = None
            if released is not None:
                epsilon = {"min": released, "mean": released, "p95": released, "max": released}
        if epsilon and epsilon["max"] is not None and isfinite(epsilon["max"]):
            found.append((one["round"], epsilon))
    return found


def accuracy_against_epsilon(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    public_only: float,
    non_private: float | None,
) -> Figure:
    """Draw what each epsilon buys, between the public-only student and training without privacy.

    Args:
        curves: by label, (epsilon, accuracy of the federated student); one epsilon may occur
            several times, of several seeds: drawn are their mean, and all of them as a band.
        public_only: accuracy of the public-only student.
        non_private: accuracy of the federated student without privacy, if it is known.
    """
    several = any(len(points) > len(dict(points)) for points in curves.values())
    words = "line: mean over seeds; band: lowest to highest of them" if several else ""
    figure, axes = chart("What each epsilon buys", "epsilon (logarithmic)", "test accuracy", words)
    if non_private is not None:
        level_line(axes, non_private, "federated, not private", "limit")
    level_line(axes, public_only, MODEL_LABELS["public_student"].lower(), "public_student")
    for (label, points), style in zip(curves.items(), cycle(CURVES), strict=False):
        by_epsilon: dict[float, list[float]] = {}
        for epsilon, accuracy in sorted(points):
            by_epsilon.setdefault(epsilon, []).append(accuracy)
        means = [float(np.mean(values)) for values in by_epsilon.values()]
        colour, marker, dashes = style
        if any(len(values) > 1 for values in by_epsilon.values()):
            low = [min(values) for values in by_epsilon.values()]
            high = [max(values) for values in by_epsilon.values()]
            band(axes, list(by_epsilon), low, high, colour)
        lines: dict[str, Any] = {"marker": marker, "linestyle": dashes, "markersize": 6}
        curve(axes, list(by_epsilon), means, colour, label, **lines)
    axes.set_xscale("log")
    shown = spaced(sorted({epsilon for points in curves.values() for epsilon, _ in points}))
    axes.set_xticks(shown, [number(epsilon) for epsilon in shown])
    axes.minorticks_off()
    percent_axis(axes)
    legend_below(figure, columns=3)
    return figure


def planned_epsilon(
    rounds: Sequence[int], curves: Mapping[str, Sequence[float]], chosen: Sequence[str]
) -> Figure:
    """Draw the epsilon that plans will have spent by round, on a logarithmic scale.

    Args:
        rounds: where the curves were worked out.
        curves: name of a plan -> its epsilon after each of ``rounds``.
        chosen: the names drawn as full lines; the others are alternatives.
    """
    figure, axes = chart(
        "What the plan will spend",
        "round",
        "epsilon (logarithmic)",
        "full line: the chosen plan; dashed: the alternatives at the same budget",
    )
    axes.set_yscale("log")
    for index, (name, epsilons) in enumerate(curves.items()):
        colour, marker, _ = CURVES[index % len(CURVES)]
        style: dict[str, Any] = {"linewidth": 2.6, "linestyle": "-", "zorder": 2}
        if name not in chosen:  # shifted dashes: plans of equal noise lie upon each other
            style = {"linewidth": 1.8, "linestyle": (3 * index, (3, 3)), "zorder": 3}
        style |= {"marker": marker, "markevery": max(1, len(rounds) // 8)}
        curve(axes, rounds, epsilons, colour, name, **style)
    if curves:
        log_ticks(axes.yaxis, number)
    round_axis(axes, max(rounds, default=1))
    legend_below(figure, columns=2)
    return figure


def not_private_banner(reason: str) -> Figure:
    """Draw the words NOT PRIVATE in red, for places whose text has no colour."""
    figure = blank_figure(8, 2.6)  # near the shape of TensorBoard's cards, or it would shrink there
    figure.text(0.03, 0.56, NOT_PRIVATE, color=COLOURS["warning"], weight="bold", size=52)
    figure.text(0.03, 0.44, fill(reason, 48), color=INK, size=19, va="top")
    return figure


def accuracy_by_simulated_time(
    points: Sequence[tuple[float, float]],
    baselines: Mapping[ModelKey, float],
    metric: Metric = "accuracy",
    tests: int | None = None,
    tested: str = "test",
) -> Figure:
    """Draw the federated student's metric against simulated time.

    Args:
        points: (seconds since the first round began, value of the metric).
        baselines: report key of a model -> its value of the metric, drawn as a level.
        metric: ``dataset.metric``.
        tests: number of examples that an accuracy is measured on, for its 95% interval (Wilson's).
        tested: what these examples are, as an adjective.
    """
    name, longest = METRIC_NAMES[metric], max(points)[0]
    sure = tests if metric == "accuracy" else None
    unit, seconds = next((one for one in _TIMES if longest >= 2 * one[1]), _TIMES[-1])
    title, x = f"How long: {tested} {name} by simulated time", f"{unit} on the simulated fleet"
    figure, axes = chart(title, x, f"{tested} {name}", _measured_on(sure, tested))
    scaled = [(time / seconds, value) for time, value in points]
    _against_levels(axes, scaled, baselines, sure)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    percent_axis(axes)
    legend_below(figure)
    return figure


_TIMES = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
