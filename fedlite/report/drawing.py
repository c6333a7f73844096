"""The house style of pictures, and how a figure becomes pixels or a file; no global state."""

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray
from PIL import Image

from fedlite.base.files import write_whole

# Those of Okabe and Ito (2008), darkened where they are drawn as lines: told apart without red or
# green. What matters is told by dashes and markers besides.
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#d98200", "#009e73", "#d55e00"
PURPLE, SKY, GREY = "#aa4480", "#56b4e9", "#475569"
COLOURS = {
    "teacher": GREY,
    "public_student": ORANGE,
    "federated_student": BLUE,
    "quantized_student": GREEN,
    "epsilon": PURPLE,
    "limit": VERMILION,
    "warning": "#dc2626",  # of the words NOT PRIVATE
}
CURVES = (  # colour, marker and dashes of one curve after another
    (BLUE, "o", "-"),
    (PURPLE, "s", (0, (6, 2))),
    (GREEN, "^", (0, (3, 1.5))),
    (ORANGE, "D", (0, (6, 2, 1, 2))),
    (GREY, "v", (0, (1, 1))),
    (SKY, "P", (0, (4, 1, 1, 1, 1, 1))),
)
LEVELS = {  # dashes of what is drawn as a level
    "teacher": (0, (6, 3)),
    "public_student": (3, (2, 2)),
    "limit": (0, (8, 2, 1, 2)),
}
_MANY = 60  # points on a line, beyond which markers would cover it
_SHARES = (0.02, 0.0, 1.0)  # the least that an axis of shares spans, and where it ends
INK, MUTED, GRID = "#0f172a", "#64748b", "#e2e8f0"


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.14, h_pad=0.12)
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, title: str, x: str, y: str, subtitle: str = "") -> None:
    """Give axes the house style: title, quiet labels, no frame but the bottom line."""
    axes.set_title(title, loc="left", color=INK, weight="bold", size=13, pad=22 if subtitle else 8)
    if subtitle:
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(subtitle, (0, 1), xytext=(0, 7), color=MUTED, size=9.5, **place)
    axes.set_xlabel(x, color=MUTED)
    axes.set_ylabel(y, color=MUTED)
    axes.tick_params(colors=MUTED, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def chart(title: str, x: str, y: str, subtitle: str = "") -> tuple[Figure, Axes]:
    """A figure with one pair of axes in the house style, over a grid."""
    figure = blank_figure(8, 4.8)
    axes = figure.subplots()
    style_axes(axes, title, x, y, subtitle)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def colour_bar(figure: Figure, axes: Axes, image: AxesImage, label: str) -> Colorbar:
    """A bar that tells what the colours of an image mean."""
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=20, shrink=0.9)
    bar.set_label(label, color=MUTED)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, length=0)
    return bar


def percent_axis(axes: Axes) -> None:
    """Shares on the y axis as per cent: over two points or more, for less is noise, and within 0
    and 100% but for the room that a line needs."""
    least, lowest, highest = _SHARES
    low, high = axes.get_ylim()
    if (lacking := least - (high - low)) > 0:
        low, high = low - lacking / 2, high + lacking / 2
    room = 0.02 * (high - low)
    axes.set_ylim(max(low, lowest - room), min(high, highest + room))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))


def round_axis(axes: Axes, last: int) -> None:
    """Rounds 1 to ``last`` on the x axis."""
    room = max(0.5, 0.02 * last)
    axes.set_xlim(1 - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def log_ticks(axis: Axis, words: Callable[[float], str]) -> None:
    """Readable ticks on a logarithmic axis that is drawn, however much or little it spans."""
    low, high = sorted(axis.get_view_interval())
    axis.set_ticks(_log_places(float(low), float(high)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
    axis.set_minor_locator(NullLocator())


def _log_places(low: float, high: float, gap: float = 0.1) -> list[float]:
    """Two round numbers or more within an interval of positive ones, none closer to the next than
    ``gap`` of the interval's length on a logarithmic scale."""
    first, last, apart = math.floor(math.log10(low)), math.ceil(math.log10(high)), gap
    apart *= math.log(high / low)
    within = []
    for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        places = (factor * 10.0**power for power in range(first, last + 1) for factor in factors)
        within = [place for place in places if low <= place <= high]
        if all(math.log(after / before) >= apart for before, after in pairwise(within)):
            break
    if len(within) < 2:
        steps = MaxNLocator(5).tick_values(low, high)
        return [float(place) for place in steps if low <= place <= high]
    return spaced(within, apart)


def spaced(values: Sequence[float], apart: float | None = None) -> list[float]:
    """Those of positive values, sorted, whose logarithms lie ``apart``: by default so that their
    labels fit beside each other on an axis over all of them."""
    if apart is None:
        apart = 0.07 * math.log(values[-1] / values[0]) if values else 0.0
    kept: list[float] = []
    for value in values:
        if not kept or math.log(value / kept[-1]) >= apart:
            kept.append(value)
    return kept


def number(value: float) -> str:
    """A number beside an axis: ``1e7 -> '10,000,000'``, ``0.30000000000000004 -> '0.3'``."""
    return f"{value:,.8g}"


def curve(
    axes: Axes, x: Sequence[float], y: Sequence[float], colour: str, label: str, **style: Any
) -> None:
    """A line with markers where they can be told apart; a single point is a point."""
    known: dict[str, Any] = {"linewidth": 2.2, "marker": "o", "markersize": 4.5} | style
    if len(x) > _MANY:
        known["marker"] = ""
    axes.plot(x, y, color=colour, label=label, **known)


def band(
    axes: Axes,
    x: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    colour: str,
    label: str = "",
) -> None:
    """What lies between two lines; at a single place, where a band has no width, a bar. Without a
    ``label`` no legend has it."""
    if len(x) == 1:
        bounds: dict[str, Any] = {"color": colour, "linewidth": 9, "alpha": 0.3}
        axes.vlines(x, low, high, label=label, **bounds)
        return
    axes.fill_between(x, low, high, color=colour, alpha=0.22, linewidth=0, label=label)
    for edge in (low, high):
        axes.plot(x, edge, color=colour, alpha=0.45, linewidth=0.7)


def legend_below(figure: Figure, columns: int = 4) -> None:
    """One legend for the figure, below it."""
    figure.legend(
        loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK, fontsize=9.5
    )


def level_line(axes: Axes, value: float, label: str, name: str) -> None:
    """A dashed level across the axes, in the colour and the dashes of ``name``; those of different
    names are seen even where they lie upon each other."""
    axes.axhline(
        value, color=COLOURS[name], linestyle=LEVELS[name], linewidth=1.8, label=label, zorder=2.5
    )


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Render to an array (height, width, 3) of 8-bit RGB; ``savefig`` would lay out twice."""
    canvas: Any = FigureCanvasAgg(figure)  # its methods have no types
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG atomically: the file is whole or not there."""
    buffer = BytesIO()
    Image.fromarray(figure_pixels(figure)).save(buffer, format="png")
    write_whole(path, buffer.getvalue())
