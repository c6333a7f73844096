"""The picture of a sweep: accuracy against the option that was swept."""

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from fedlite.base.records import ModelKey
from fedlite.report.drawing import COLOURS, chart, legend_below, percent_axis

MARKERS = ("o", "s", "D", "^")
WIDE = 8.0  # values that span this factor or more are drawn on a logarithmic axis


def accuracy_by_option(
    option: str,
    values: Sequence[str],
    accuracies: Mapping[ModelKey, Sequence[Sequence[float]]],
    labels: Mapping[ModelKey, str],
) -> Figure:
    """Draw the accuracy of each model by the value of an option, with the spread over seeds.

    Args:
        option: its key.
        values: as they were typed; on a scale if all are numbers, else side by side.
        accuracies: model -> for each value, its accuracy with every seed.
        labels: of the models.
    """
    seeds = max(len(one) for found in accuracies.values() for one in found)
    subtitle = f"mean of up to {seeds} seeds; bars: standard deviation" if seeds > 1 else ""
    figure, axes = chart("Accuracy of the students", option, "accuracy", subtitle)
    numbers = _numbers(values)
    places = numbers or [float(index) for index in range(len(values))]
    for index, (model, found) in enumerate(accuracies.items()):
        there = sorted((x, one) for x, one in zip(places, found, strict=True) if one)
        axes.errorbar(
            [x for x, _ in there],
            [statistics.mean(one) for _, one in there],
            yerr=[statistics.stdev(one) if len(one) > 1 else 0.0 for _, one in there]
            if seeds > 1
            else None,
            color=COLOURS[model],
            marker=MARKERS[index % len(MARKERS)],
            linestyle="-" if numbers else "none",
            linewidth=2,
            capsize=4,
            label=labels[model],
        )
    if numbers and min(places) > 0 and max(places) / min(places) >= WIDE:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(places, list(values))
    if not numbers:
        axes.margins(x=0.15)
    percent_axis(axes)
    legend_below(figure)
    return figure


def _numbers(values: Sequence[str]) -> list[float]:
    """The values as numbers; none where any is no number."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return []
