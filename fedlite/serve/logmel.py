"""From samples of sound to a log-mel spectrogram, to the same bits everywhere (``logmel.js``)."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fedlite.serve.exact import cosine, logarithm
from fedlite.serve.kind import Array
from fedlite.serve.resample import LEVELS, UNIT, Double, Samples

TOGETHER = 64  # clips that are transformed together
DECIBELS = 4.342944819032518  # 10 / ln 10
LEAST_POWER = 1e-30  # below any floor


@dataclass(frozen=True)
class LogMel:
    """The log-mel front end of a model of sounds; every number of it is public.

    Clips of ``samples`` samples at ``rate`` Hz are cut into frames of ``window`` samples, one each
    ``hop``, under a periodic Hann window. Their power spectrum (a DFT over the next power of two)
    is summed under triangles whose feet and tips are ``edges`` in Hz, and told in decibels, 0 for
    a sine of full scale at a tip, not below ``floor``.

    Samples and sines are whole numbers, so that the DFT is a sum of whole numbers below 2^53: exact
    in every order of adding. All other steps are single IEEE operations in a given order.
    """

    rate: int
    samples: int
    window: int
    hop: int
    edges: tuple[float, ...]
    floor: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what a model sees: (1, bands, frames)."""
        return 1, len(self.edges) - 2, 1 + (self.samples - self.window) // self.hop

    @property
    def seconds(self) -> float:
        """The length of a clip."""
        return self.samples / self.rate

    def __call__(self, clips: Samples) -> Array:
        """Decibels (n, 1, bands, frames), the lowest band first, of clips (n, samples) of whole
        numbers from -2^15 to 2^15 - 1."""
        parts = [
            self._transform(clips[start : start + TOGETHER])
            for start in range(0, len(clips), TOGETHER)
        ]
        return np.concatenate(parts)

    def empty_bands(self) -> list[int]:
        """The bands in which no frequency of the DFT lies."""
        _, weights = _triangles(self)
        return np.flatnonzero(weights.sum(axis=1) == 0).tolist()

    def _transform(self, clips: Samples) -> Array:
        frames = sliding_window_view(clips.astype(np.float64), self.window, axis=1)
        frames = frames[:, :: self.hop]
        parts = (frames @ _table(self.window)).reshape(*frames.shape[:2], 2, -1)
        power = parts[:, :, 0] * parts[:, :, 0] + parts[:, :, 1] * parts[:, :, 1]
        sine = LEVELS * UNIT * self.window / 4.0  # what one of full scale comes to
        power = power.transpose(2, 0, 1) / (sine * sine)
        first, weights = _triangles(self)
        bands = np.zeros((len(first), *power.shape[1:]))
        for place in range(weights.shape[1]):
            reached = np.minimum(first + place, len(power) - 1)
            bands = bands + weights[:, place, None, None] * power[reached]
        decibels = logarithm(np.maximum(bands, LEAST_POWER)) * DECIBELS
        found = np.maximum(decibels, self.floor).astype(np.float32)
        return np.ascontiguousarray(found.transpose(1, 0, 2)[:, None])


def log_mel(
    rate: int, seconds: float, window: float, hop: float, bands: int, floor: float
) -> LogMel:
    """The front end of so many mel ``bands`` from 20 Hz to half the ``rate``.

    The mel scale is HTK's, ``2595 log10(1 + f / 700)`` (O'Shaughnessy 1987); edges are rounded to
    1/1000 Hz, and kept, so that nobody computes them again.

    Args:
        rate: in Hz.
        seconds: of a clip.
        window: milliseconds of a frame.
        hop: milliseconds from frame to frame.
        bands: of the spectrogram.
        floor: in decibels below a sine of full scale.
    """
    lowest, highest = (2595 * math.log10(1 + f / 700) for f in (20.0, rate / 2))
    mels = (lowest + (highest - lowest) * place / (bands + 1) for place in range(bands + 2))
    return LogMel(
        rate=rate,
        samples=round(seconds * rate),
        window=round(window * rate / 1000),
        hop=round(hop * rate / 1000),
        edges=tuple(round(700 * (10 ** (mel / 2595) - 1), 3) for mel in mels),
        floor=floor,
    )


def points_of(window: int) -> int:
    """Of the DFT of a window: the next power of two."""
    return 1 << (window - 1).bit_length()


@lru_cache(maxsize=4)
def _table(window: int) -> Double:
    """Windowed cosines, then sines, as whole numbers (window, 2 x frequencies)."""
    points = points_of(window)
    times, frequencies = np.arange(window)[:, None], np.arange(points // 2 + 1)
    hann = 0.5 - 0.5 * cosine(times, window)
    turns = times * frequencies % points
    waves = np.concatenate([cosine(turns, points), cosine(4 * turns - points, 4 * points)], axis=1)
    found: Double = np.floor(hann * waves * UNIT + 0.5)
    return found


@lru_cache(maxsize=4)
def _triangles(front: LogMel) -> tuple[NDArray[np.int64], Double]:
    """Of each band the first frequency above 0, and the weights of it and its followers."""
    points, edges = points_of(front.window), np.array(front.edges)
    found = np.arange(points // 2 + 1) * float(front.rate) / points
    low, tip, high = (edges[start : len(edges) - 2 + start, None] for start in range(3))
    rise, fall = (found - low) / (tip - low), (high - found) / (high - tip)
    weights = np.maximum(0.0, np.minimum(rise, fall))
    first: NDArray[np.int64] = np.argmax(weights > 0, axis=1)
    widest = int((weights > 0).sum(axis=1).max())
    places = np.minimum(first[:, None] + np.arange(widest), weights.shape[1] - 1)
    inside = first[:, None] + np.arange(widest) < weights.shape[1]
    return first, np.where(inside, np.take_along_axis(weights, places, axis=1), 0.0)
