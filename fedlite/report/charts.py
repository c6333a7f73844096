"""Pictures of a run: pure functions from numbers to matplotlib figures, without global state."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import NDArray

from fedlite.base.records import ModelKey
from fedlite.report.audit_sections import UnitName
from fedlite.report.drawing import (
    COLOURS,
    INK,
    blank_figure,
    chart,
    colour_bar,
    legend_below,
    level_line,
    percent_axis,
    style_axes,
)
from fedlite.report.schema import RoundEntry
from fedlite.report.words import MODEL_LABELS, NOT_PRIVATE

_CURVES = ("#2563eb", "#7c3aed", "#0d9488", "#16a34a", "#475569")
LEVELS: tuple[ModelKey, ...] = ("teacher", "public_student")  # drawn as levels beside the rounds
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
    top.stairs(
        counts.sum(axis=1), edges, fill=True, color=_BLUES(0.55), edgecolor="white", linewidth=0.5
    )
    top.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    image = main.imshow(counts.T, aspect="auto", cmap=_BLUES, vmin=0, interpolation="nearest")
    style_axes(main, "", "client", "class")
    main.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    shown = range(0, classes, max(1, -(-classes // 24)))
    main.set_yticks(list(shown), [_short(class_names[index]) for index in shown], fontsize=8.5)
    if clients <= 30 and classes <= 20:
        _annotate(main, counts.T, 7 if counts.max() < 1000 else 6)
    colour_bar(figure, main, image, "examples")
    return figure


def _short(name: str, longest: int = 18) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _annotate(
    axes: Axes, values: NDArray[Any], size: float, shade: NDArray[Any] | None = None
) -> None:
    shade = values / max(1, values.max()) if shade is None else shade
    for (row, column), value in np.ndenumerate(values):
        if value:
            colour = "white" if shade[row, column] > 0.5 else INK
            axes.text(column, row, f"{value}", ha="center", va="center", color=colour, size=size)


def confusion_matrix(
    confusion: Sequence[Sequence[int]] | NDArray[Any], class_names: Sequence[str]
) -> Figure:
    """Draw the confusion matrix: ``confusion[i][j]`` examples of true class i predicted as j.

    Colours are shares of the true class; numbers are examples.
    """
    counts = np.asarray(confusion)
    classes = len(counts)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 3.2 + min(7.0, 0.42 * classes)
    figure = blank_figure(side + 1, side)
    axes = figure.subplots()
    right = int(np.trace(counts))
    subtitle = f"{right:,} of {int(counts.sum()):,} right"
    style_axes(axes, "Confusion matrix of the federated student", "predicted", "true", subtitle)
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
    metric: Literal["accuracy", "macro_f1"] = "accuracy",
) -> Figure:
    """Draw the federated student's test metric by round against the models that it is judged by.

    Args:
        history: the report's ``history``; rounds without an evaluation are skipped.
        baselines: report key of a model -> its value of the metric, drawn as a level.
        metric: ``accuracy`` or ``macro_f1``.
    """
    name = {"accuracy": "accuracy", "macro_f1": "macro-F1"}[metric]
    figure, axes = chart(f"How good: test {name} by round", "round", f"test {name}")
    points = [(one["round"], one["evaluation"][metric]) for one in history if one["evaluation"]]
    for key, value in baselines.items():
        level_line(axes, value, MODEL_LABELS[key], COLOURS[key])
    if points:
        rounds, values = zip(*points, strict=True)
        colour, label = COLOURS["federated_student"], MODEL_LABELS["federated_student"]
        axes.plot(rounds, values, "o-", color=colour, label=label, linewidth=2.2, markersize=4)
    percent_axis(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure)
    return figure


def epsilon_by_round(
    history: Sequence[RoundEntry], budget: float | None, unit: UnitName = "example"
) -> Figure:
    """Draw the epsilon spent by round against the budget.

    ``unit`` example draws maximum and spread over clients, client the one of the releases.
    """
    figure, axes = chart("How private: epsilon spent by round", "round", f"epsilon ({unit}-level)")
    colour = COLOURS["epsilon"]
    clients = [(one["round"], one["epsilon"]) for one in history if one["epsilon"]]
    if unit == "example":
        rounds = [number for number, _ in clients]
        spent = [epsilon["max"] for _, epsilon in clients]
        lowest = [epsilon["min"] for _, epsilon in clients]
        means = [epsilon["mean"] for _, epsilon in clients]
        axes.fill_between(rounds, lowest, spent, color=colour, alpha=0.15, label="all clients")
        axes.plot(rounds, means, color=colour, linewidth=1.4, linestyle=":", label="mean")
    else:
        releases = [(one["round"], one["client_level_epsilon"]) for one in history]
        told = [(number, epsilon) for number, epsilon in releases if epsilon is not None]
        rounds, spent = [number for number, _ in told], [epsilon for _, epsilon in told]
    if spent:
        label = "maximum" if unit == "example" else "of the releases"
        axes.plot(rounds, spent, "o-", color=colour, label=label, linewidth=2.2, markersize=4)
    if budget is not None:
        level_line(axes, budget, f"budget {budget:g}", COLOURS["warning"])
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure)
    return figure


def accuracy_against_epsilon(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    public_only: float,
    non_private: float | None,
) -> Figure:
    """Draw what each epsilon buys, between the public-only student and training without privacy.

    Args:
        curves: by label, (epsilon, accuracy of the federated student); one epsilon may occur
            several times. Five at most.
        public_only: accuracy of the public-only student.
        non_private: accuracy of the federated student without privacy, if it is known.
    """
    figure, axes = chart("What each epsilon buys", "epsilon (logarithmic)", "test accuracy")
    if non_private is not None:
        level_line(axes, non_private, "federated, not private", COLOURS["warning"])
    level_line(axes, public_only, MODEL_LABELS["public_student"].lower(), COLOURS["public_student"])
    for (label, points), colour in zip(curves.items(), _CURVES, strict=False):
        by_epsilon: dict[float, list[float]] = {}
        for epsilon, accuracy in sorted(points):
            by_epsilon.setdefault(epsilon, []).append(accuracy)
        means = [float(np.mean(values)) for values in by_epsilon.values()]
        style: dict[str, Any] = {"color": colour, "linewidth": 2.2, "markersize": 6}
        axes.plot(list(by_epsilon), means, "o-", label=label, **style)
        if any(len(values) > 1 for values in by_epsilon.values()):
            low = [min(values) for values in by_epsilon.values()]
            high = [max(values) for values in by_epsilon.values()]
            axes.fill_between(list(by_epsilon), low, high, color=colour, alpha=0.15)
    axes.set_xscale("log")
    shown = sorted({epsilon for points in curves.values() for epsilon, _ in points})
    axes.set_xticks(shown, [f"{epsilon:g}" for epsilon in shown])
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
        style: dict[str, Any] = {"linewidth": 2.6, "linestyle": "-", "zorder": 2}
        if name not in chosen:  # shifted dashes: plans of equal noise lie upon each other
            style = {"linewidth": 1.8, "linestyle": (3 * index, (3, 3)), "zorder": 3}
        axes.plot(rounds, epsilons, color=_CURVES[index % len(_CURVES)], label=name, **style)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, columns=2)
    return figure


def not_private_banner(reason: str) -> Figure:
    """Draw the words NOT PRIVATE in red, for places whose text has no colour."""
    figure = blank_figure(8, 2.6)  # near the shape of TensorBoard's cards, or it would shrink there
    figure.text(0.03, 0.56, NOT_PRIVATE, color=COLOURS["warning"], weight="bold", size=52)
    figure.text(0.03, 0.44, fill(reason, 48), color=INK, size=19, va="top")
    return figure


def accuracy_by_simulated_time(
    points: Sequence[tuple[float, float]], baselines: Mapping[ModelKey, float]
) -> Figure:
    """Draw the federated student's test accuracy against simulated time.

    Args:
        points: (seconds since the first round began, accuracy).
        baselines: report key of a model -> its accuracy, drawn as a level.
    """
    title = "How long: test accuracy by simulated time"
    figure, axes = chart(title, "hours on the simulated fleet", "test accuracy")
    for key, value in baselines.items():
        level_line(axes, value, MODEL_LABELS[key], COLOURS[key])
    hours = [seconds / 3600 for seconds, _ in points]
    colour, label = COLOURS["federated_student"], MODEL_LABELS["federated_student"]
    accuracies = [accuracy for _, accuracy in points]
    axes.plot(hours, accuracies, "o-", color=colour, label=label, linewidth=2.2, markersize=4)
    axes.set_xlim(left=0)
    percent_axis(axes)
    legend_below(figure)
    return figure
