"""Samples of sound as whole numbers, and at another rate, to the same bits everywhere."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.serve.exact import PI, cosine

LEVELS = 2**15  # of a sample, to each side of silence
UNIT = 2**20  # of a table of sines or taps: its whole numbers for 1
ZEROS = 16  # of the sinc, to each side

Samples = NDArray[np.int64]
Double = NDArray[np.float64]


def resampled(samples: NDArray[Any], rate: int, wanted: int) -> Samples:
    """Whole-number samples at another rate: a sinc of 16 zeros to each side under a Hann window,
    cut off at half the lower rate (Smith, *Digital Audio Resampling*, 1984).

    Taps are whole numbers, so that every sum is exact; it is rounded to a whole sample.
    """
    if rate == wanted:
        return samples.astype(np.int64)
    common = math.gcd(rate, wanted)
    up, down = wanted // common, rate // common
    taps = _taps(up, down)
    reach = taps.shape[1] // 2
    positions = np.arange(-(-len(samples) * up // down)) * down
    base, phase = positions // up, positions % up
    padded = np.pad(samples.astype(np.float64), reach)
    total = np.zeros(len(base))
    for tap in range(2 * reach):  # its place in the samples is base + tap - reach + 1
        total += taps[phase, tap] * padded[base + tap + 1]
    return as_levels(total / UNIT)


def as_levels(values: Double) -> Samples:
    """Values rounded to whole samples, and cut at full scale."""
    return np.clip(np.floor(values + 0.5), -LEVELS, LEVELS - 1).astype(np.int64)


@lru_cache(maxsize=4)
def _taps(up: int, down: int) -> Double:
    """Whole-number weights (phases, taps) of the samples around each new one."""
    lower = max(up, down)
    reach = -(-ZEROS * lower // up)
    before = np.arange(1 - reach, reach + 1) * up - np.arange(up)[:, None]
    sine = cosine(2 * before - lower, 4 * lower)
    angle = before * PI / lower
    sinc = np.where(before == 0, 1.0, sine / np.where(before == 0, 1.0, angle))
    hann = 0.5 + 0.5 * cosine(before, 2 * ZEROS * lower)
    inside = np.abs(before) < ZEROS * lower
    return np.where(inside, np.floor(sinc * hann * (float(up) / lower) * UNIT + 0.5), 0.0)
