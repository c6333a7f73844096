"""Pictures of the audits: pure functions from what an audit found to matplotlib figures."""

import math
from textwrap import fill

import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve
from torch import Tensor

from fedlite.audit.canaries import CanaryAudit
from fedlite.audit.inversion import CLIPPED, NOISE_ALONE, NOISED, PLAIN, Inversion
from fedlite.audit.membership import COMPRESSED, CONTROL, STUDENT, MembershipAudit
from fedlite.data.types import Normalise, Task
from fedlite.report.audits import ATTACKED
from fedlite.report.drawing import (
    COLOURS,
    blank_figure,
    chart,
    legend_below,
    log_ticks,
    style_axes,
)

OUT_COLOUR = "#94a3b8"
CURVES = {  # colour and dashes
    STUDENT: (COLOURS["federated_student"], "-"),
    COMPRESSED: (COLOURS["quantized_student"], (0, (5, 1.5))),
    CONTROL: (COLOURS["limit"], (0, (4, 1.5, 1, 1.5))),
}
PANELS = {
    PLAIN: "Without protection",
    CLIPPED: "Clipped only",
    NOISED: "Clipped and noised",
}


def canary_scores(audit: CanaryAudit) -> Figure:
    """Draw the scores of canaries that took part and of those that did not."""
    words = [f"audited: epsilon is at least {audit.bound.epsilon:.2f} (95% confidence)"]
    if audit.claimed_epsilon is not None:
        words.append(f"claimed: at most {audit.claimed_epsilon:.2f}")
    figure, axes = chart(
        f"How far canaries stand out: one {audit.unit} each",
        "score",
        "canaries",
        ", ".join(words) + f", at delta {audit.delta:g}",
    )
    edges = np.histogram_bin_edges(audit.scores, bins=40).tolist()
    sides = (("took part", COLOURS["federated_student"]), ("did not", OUT_COLOUR))
    for (label, colour), chosen in zip(sides, (audit.included, ~audit.included), strict=True):
        axes.hist(audit.scores[chosen], bins=edges, color=colour, alpha=0.45, label=label)
        axes.hist(audit.scores[chosen], bins=edges, color=colour, histtype="step", linewidth=1.4)
    legend_below(figure)
    return figure


def membership_roc(audit: MembershipAudit) -> Figure:
    """Draw true against false positives of every attack, both on logarithmic axes."""
    figure, axes = chart(
        "Membership inference (LiRA)",
        "false-positive rate (logarithmic)",
        "true-positive rate (logarithmic)",
        f"{audit.facts['targets']} retrained students, {audit.facts['shadows']} shadows,"
        f" {audit.facts['candidates']} candidates",
    )
    low = 0.5 / max(int((~one.members).sum()) for one in audit.attacks.values())
    rates = np.geomspace(low, 1, 200)
    axes.plot(rates, rates, color=OUT_COLOUR, linestyle=(0, (2, 2)), label="Guessing")
    if audit.claimed_epsilon is not None:
        grown = np.exp(audit.claimed_epsilon)
        most = np.minimum(grown * rates + audit.delta, 1 - (1 - audit.delta - rates) / grown)
        axes.plot(
            rates,
            most.clip(0, 1),
            color=COLOURS["epsilon"],
            linestyle=(0, (5, 3)),
            label=f"The most that epsilon {audit.claimed_epsilon:.3g} allows",
        )
    for name, one in audit.attacks.items():
        false, true, _ = roc_curve(one.members, one.scores, drop_intermediate=False)
        axes.step(
            false.clip(low),
            true.clip(low),
            color=CURVES[name][0],
            linestyle=CURVES[name][1],
            linewidth=2,
            label=f"{ATTACKED[name]}, AUC {one.auc:.2f}",
        )
    axes.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1.1))
    for axis in (axes.xaxis, axes.yaxis):
        log_ticks(axis, lambda rate: f"{100 * rate:.3g}%")
    legend_below(figure, columns=2)
    return figure


def inverted_example(audit: Inversion, task: Task, noise_multiplier: float | None) -> Figure:
    """Draw the planted public example beside what the attack made of each gradient."""
    shown = {name: title for name, title in PANELS.items() if name in audit.reconstructions}
    figure = blank_figure(2.9 * (1 + len(shown)) + 0.4, 4.0)
    panels = np.atleast_1d(figure.subplots(1, 1 + len(shown)))
    example = audit.shown == "example"
    title = "Planted public example" if example else "Features of a planted public example"
    _panel(panels[0], audit.original, task, title, "", example=example)
    for axes, (name, title) in zip(panels[1:], shown.items(), strict=True):
        caption = f"similarity {audit.cosine[name]:.2f}"
        if example and name in audit.features_cosine:
            caption += f"\ndense layer's input {audit.features_cosine[name]:.2f}"
        if name == NOISED and noise_multiplier is not None:
            title += f", noise multiplier {noise_multiplier:.2g}"
        _panel(axes, audit.reconstructions[name], task, title, caption, example=example)
    words = f"What one gradient gives away ({audit.method}); an example alone in its batch."
    if not example:
        words += " Drawn: the numbers that enter the first dense layer, row by row."
    if NOISE_ALONE in audit.cosine:
        words += f" From noise alone the attack gets to {audit.cosine[NOISE_ALONE]:.2f}."
    figure.suptitle(fill(words, 100), size=11, x=0.02, ha="left")
    return figure


def _panel(
    axes: Axes, values: Tensor, task: Task, title: str, caption: str, *, example: bool
) -> None:
    """An image as it was before normalisation, lines for a series, or folded features."""
    style_axes(axes, "", "", "")
    axes.set_title(title, loc="left", size=10)
    axes.set_xlabel(caption, loc="left", size=9)
    axes.set_xticks([])
    axes.set_yticks([])
    if example and values.dim() != 3:
        axes.plot(values.reshape(-1, values.shape[-1]).T.numpy(), linewidth=1)
        return
    pixels = _pixels(values, task) if example else _folded(values)
    axes.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1)


def _pixels(image: Tensor, task: Task) -> Tensor:
    """(C, H, W) normalised to (H, W, 3) in colour, or (H, W) of the first channel, in [0, 1]; of a
    spectrogram from the bottom up, two standard deviations to each side of its mean."""
    if task.sound is not None:
        return (image[0].float() / 4 + 0.5).clamp(0, 1).flip(0)
    assert isinstance(task.preprocessing, Normalise), "texts are no images"
    raw = task.preprocessing.undo(image[None])[0] / task.preprocessing.scale
    pixels = raw.float().clamp(0, 1)
    return pixels.permute(1, 2, 0) if len(pixels) == 3 else pixels[0]


def _folded(features: Tensor) -> Tensor:
    """(d,) numbers as the rows of a square, scaled to [0, 1]."""
    side = math.ceil(math.sqrt(len(features)))
    scaled = (features - features.min()) / (features.max() - features.min()).clamp(min=1e-12)
    return F.pad(scaled, (0, side * side - len(features))).reshape(side, side)
