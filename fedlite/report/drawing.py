"""The house style of pictures, and how a figure becomes pixels or a file; no global state."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray
from PIL import Image

from fedlite.base.files import write_whole

COLOURS = {
    "teacher": "#475569",
    "public_student": "#d97706",
    "federated_student": "#2563eb",
    "folded_student": "#0891b2",
    "pruned_student": "#0d9488",
    "quantized_student": "#16a34a",
    "epsilon": "#7c3aed",
    "warning": "#dc2626",
}
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
    """Shares on the y axis as per cent."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))


def legend_below(figure: Figure, columns: int = 4) -> None:
    """One legend for the figure, below it."""
    figure.legend(
        loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK, fontsize=9.5
    )


def level_line(axes: Axes, value: float, label: str, colour: str) -> None:
    """A dashed level across the axes."""
    axes.axhline(value, color=colour, linestyle=(0, (5, 3)), linewidth=1.6, label=label)


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
