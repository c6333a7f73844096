"""A lower bound on what Poisson-sampled Gaussian steps cost, worked out apart from the accountants.

Accountants give upper bounds. What is claimed below this bound was counted wrong. It shares no code
with :mod:`fedlite.privacy.accounting`.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

POINTS = 2**18  # of the grid of privacy losses
ROUNDING = 1e-12  # of the transforms, in any probability


def least_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """An epsilon below which ``steps`` steps are not (epsilon, ``delta``)-DP, by removal.

    Numerical composition of the privacy loss (Koskela, Jaelkoe, Honkela 2020, arXiv 1906.03049)
    with every rounding downwards: losses to the grid's next lower point, what lies above it to its
    last, what lies below it left out. The hockey-stick divergence so found is too small, and so is
    epsilon. The result is 0 where nothing can be shown.
    """
    losses, step = _grid(noise_multiplier, sample_rate, steps, delta)
    one = _masses(losses, step, noise_multiplier, sample_rate)
    # What is added up wraps around at the ends of the grid, which is moved to lie about the mean.
    middle = round(steps * float((one * losses).sum()) / step)
    transformed = np.fft.rfft(np.roll(one, -(POINTS // 2)))
    composed = np.roll(np.fft.irfft(transformed**steps, POINTS), POINTS // 2 - middle).clip(0)
    total = losses + middle * step
    wrapped = _below(losses, one, steps, float(total[0])) + ROUNDING
    over = np.cumsum(composed[::-1])[::-1]
    paid = np.cumsum((composed * np.exp(-total.clip(-700)))[::-1])[::-1]
    shown = np.flatnonzero(over - np.exp(total.clip(-700, 700)) * paid - wrapped > delta)
    return max(0.0, float(total[shown[-1]])) if len(shown) else 0.0


def _grid(noise: float, rate: float, steps: int, delta: float) -> tuple[Floats, float]:
    """Points of the grid, and their distance: wide enough for the sum of all steps' losses."""
    tail = math.sqrt(-2 * math.log(delta)) + 2
    once = 0.5 / noise**2 + tail / noise  # of one step that samples the example
    spread = rate * math.sqrt(math.expm1(min(50.0, noise**-2)) * steps)
    width = 1.5 * (once + min(spread, math.sqrt(rate * steps) * once) * tail)
    step = 2 * width / POINTS
    points: Floats = (np.arange(POINTS) - POINTS // 2) * np.float64(step)
    return points, step


def _masses(losses: Floats, step: float, noise: float, rate: float) -> Floats:
    """Probabilities of one step's loss, with the example, rounded down to the grid."""
    edges = np.append(losses, np.inf)
    grown = (np.expm1(np.minimum(edges[:-1], 700.0)) + rate) / rate
    with np.errstate(divide="ignore", invalid="ignore"):
        where = np.where(grown > 0, noise**2 * np.log(np.maximum(grown, 1e-300)) + 0.5, -np.inf)
    where = np.append(where, np.inf)
    below = (1 - rate) * ndtr(where / noise) + rate * ndtr((where - 1) / noise)
    masses: Floats = np.diff(below)
    return masses


def _below(losses: Floats, masses: Floats, steps: int, lowest: float) -> float:
    """At most how likely the sum of the losses lies below the grid, by Chernoff's bound."""
    bounds = []
    for slope in np.geomspace(0.1, 100, 12):
        exponents = np.where(masses > 0, -slope * losses, -np.inf)
        peak = float(exponents.max())
        moment = peak + math.log(float((masses * np.exp(exponents - peak)).sum()) or 1e-300)
        bounds.append(steps * moment + slope * lowest)
    return math.exp(min(0.0, *bounds))
