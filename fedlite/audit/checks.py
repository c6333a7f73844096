"""Is what ran what was charged? Tests of a mechanism's releases against its plan.

A lower bound of epsilon refutes a claim only where it lies above it, and no number of canaries
shows more than about 6: at a claim of 8 a client that adds no noise at all would pass. But who
invented all examples knows what a release must be: the clipped gradients of those that were
sampled, and Gaussian noise of the plan's size. Each function here tests one part of that and
returns a :class:`Check`, whose p-value is how likely a correct mechanism looks as odd.

All vectors are in clip norms: one sampled example pushes by its direction, of norm 1 or less.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from fedlite.report.audit_sections import CheckEntry, CheckName

Floats = NDArray[np.float64]
_RANK_CUTOFF = 1e-6  # of the largest eigenvalue


@dataclass(frozen=True)
class Check:
    """What was measured, what the plan says, and the p-value of so large a difference.

    Where too little is left to see, it is not ``tested``, and the p-value is 1.
    """

    name: CheckName
    measured: float
    planned: float
    p_value: float
    tested: bool = True

    def record(self, error: float) -> CheckEntry:
        """The entry of ``audits.json``; it fails where the p-value is below ``error``."""
        return {
            "name": self.name,
            "measured": self.measured,
            "planned": self.planned,
            "p_value": self.p_value,
            "passed": self.p_value >= error,
            "tested": self.tested,
        }


@dataclass(frozen=True)
class Mechanism:
    """What one release adds up: each example by ``gains`` (steps,) whenever it is sampled, which is
    with probability ``rate`` in each step, and as much Gaussian noise of ``noise`` clip norms."""

    noise: float
    rate: float
    gains: Floats

    @classmethod
    def of_steps(
        cls, noise: float, rate: float, *, steps: int, momentum: float, pull: float
    ) -> Self:
        """Local SGD steps as a linear filter: how far the gradient of each has moved the weights at
        the end, under ``momentum`` and after a ``pull`` back to the start in each step."""
        gains = np.zeros(steps)
        for first in range(steps):
            speed = moved = 0.0
            for step in range(first, steps):
                speed = momentum * speed + (step == first)
                moved = (moved + speed) * (1 - pull)
            gains[first] = moved
        return cls(noise, rate, gains)

    @property
    def mean(self) -> float:
        """Of an example's weight in one release."""
        return self.rate * float(self.gains.sum())

    @property
    def power(self) -> float:
        """Sum of squared gains."""
        return float(np.square(self.gains).sum())

    @property
    def sampling_variance(self) -> float:
        """Of an example's weight in one release."""
        return self.rate * (1 - self.rate) * self.power

    @property
    def noise_variance(self) -> float:
        """Of one coordinate of a release."""
        return self.noise**2 * self.power

    def excess(self, count: int) -> float:
        """Excess kurtosis of the sum of ``count`` independent weights."""
        spread = self.rate * (1 - self.rate)
        if spread == 0:
            return 0.0
        fourth = float(np.power(self.gains, 4).sum()) / self.power**2
        return fourth * (1 - 6 * spread) / (spread * count)


class Directions:
    """Where each of m examples pushes a release of d numbers, as rows (m, d).

    ``parts`` are the sizes of the arrays that a release is made of, one after the other. ``free``
    (parts, 2) says of each how much of it no example can push: trace, and trace of the square, of
    the projection onto what is left. ``untouched`` (d,) are the coordinates that nothing pushes.
    """

    def __init__(self, rows: Floats, parts: Sequence[int] = ()) -> None:
        self.count, self.size = rows.shape
        self.parts = tuple(parts) or (self.size,)
        self.untouched: NDArray[np.bool_] = np.logical_not(rows.any(axis=0))
        self._axes = _axes(rows)
        self._rows = None if self._axes else rows
        ends = np.cumsum(self.parts)[:-1]
        if self._axes:  # an axis for each: nothing to solve
            self._vectors, self._values = None, self._axes[1] ** 2
            self.rank = self.count
            left = [float(part.sum()) for part in np.split(self.untouched, ends)]
            self.free = np.array([left, left]).T
            return
        grams = [part @ part.T for part in np.split(rows, ends, axis=1)]
        values, vectors = np.linalg.eigh(sum(grams, np.zeros((self.count, self.count))))
        kept = values > _RANK_CUTOFF * values[-1]
        self._values, self._vectors = values[kept], vectors[:, kept]
        self.rank = int(kept.sum())
        basis = self._vectors / np.sqrt(self._values)
        seen = [basis.T @ gram @ basis for gram in grams]
        sizes, traces = np.array(self.parts), np.array([np.trace(one) for one in seen])
        squares = np.array([float((one**2).sum()) for one in seen])
        self.free = np.stack([sizes - traces, sizes - 2 * traces + squares], axis=1)

    def along(self, vector: Floats) -> Floats:
        """(m,): the inner products of a vector (d,) with the rows."""
        if self._axes:
            return vector[self._axes[0]] * self._axes[1]
        assert self._rows is not None
        found: Floats = self._rows @ vector
        return found

    def total(self, weights: Floats) -> Floats:
        """(d,): the rows added up with weights (m,)."""
        if self._axes:
            summed = np.zeros(self.size)
            summed[self._axes[0]] = weights * self._axes[1]
            return summed
        assert self._rows is not None
        found: Floats = weights @ self._rows
        return found

    def gram(self, weights: Floats) -> Floats:
        """(m,): the rows' inner products with each other, times weights (m,)."""
        if self._vectors is None:
            return self._values * weights
        found: Floats = self._vectors @ (self._values * (self._vectors.T @ weights))
        return found

    def solve(self, products: Floats, ridge: float = 0.0) -> Floats:
        """(m,): the weights whose total has these inner products, by least squares."""
        if self._vectors is None:
            return products / (self._values + ridge)
        found: Floats = self._vectors @ ((self._vectors.T @ products) / (self._values + ridge))
        return found

    def unexplained(self, vector: Floats) -> Floats:
        """(d,): a vector without what the rows explain of it."""
        return vector - self.total(self.solve(self.along(vector)))

    def crosstalk(self, included: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
        """Of the inner products of each row with itself and with the ``included`` ones: the first,
        the sum of the others' squares, and the largest in size, (m,) each."""
        if self._rows is None:
            own = self._values
            return own, own**2 * included, own * included
        products = self._rows @ self._rows.T
        others = np.abs(products[:, included])
        return np.diag(products), (others**2).sum(axis=1), others.max(axis=1, initial=0.0)

    def spread(self, products: Floats, noise: float, sampling: Floats) -> float:
        """The Mahalanobis distance of inner products whose covariance is that of noise of variance
        ``noise``, seen along the rows, and of weights with variances ``sampling`` (m,)."""
        if self._vectors is None:
            variances = noise * self._values + sampling * self._values**2
            return float((products**2 / variances).sum())
        scaled = (self._vectors.T * sampling) @ self._vectors * self._values[:, None]
        covariance = noise * np.eye(self.rank) + scaled * self._values
        covariance += np.diag(noise * (self._values - 1))
        seen = self._vectors.T @ products
        return float(seen @ np.linalg.solve(covariance, seen))


def _axes(rows: Floats) -> tuple[NDArray[np.int64], Floats] | None:
    """Coordinate and value of each row, if each has one that is not zero and none share one."""
    where, column = np.nonzero(rows)
    alone = len(where) == len(rows) == len(np.unique(where)) == len(np.unique(column))
    return (column, rows[where, column]) if alone else None


@dataclass(frozen=True)
class Seen:
    """What one observer saw of R releases, each as its inner products with the directions (R, m),
    and of what these leave unexplained: its energy in each part (R, parts), and a sample of its
    coordinates (R, k), whose places are ``sampled``.

    ``included`` (m,) are the examples that are in the data.
    """

    directions: Directions
    included: NDArray[np.bool_]
    along: Floats
    energies: Floats
    samples: Floats
    sampled: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        directions: Directions,
        included: NDArray[np.bool_],
        releases: Sequence[tuple[Floats, Floats, Floats]],
        sampled: NDArray[np.int64],
    ) -> Self:
        """From what :func:`observed` kept of each release."""
        along, energies, samples = (np.stack(part) for part in zip(*releases, strict=True))
        return cls(directions, included, along, energies, samples, sampled)

    @property
    def untouched(self) -> tuple[NDArray[np.int64], Floats]:
        """Of the sampled coordinates that nothing pushes: places (u,) and samples (R, u)."""
        kept = self.directions.untouched[self.sampled]
        return self.sampled[kept], self.samples[:, kept]


def observed(
    directions: Directions, release: Floats, sampled: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats]:
    """What is kept of one release (d,): inner products, energies and sample as in ``Seen``."""
    left = directions.unexplained(release)
    parts = np.split(left, np.cumsum(directions.parts)[:-1])
    energies = np.array([float(part @ part) for part in parts])
    return directions.along(release), energies, left[sampled]


def check_push(seen: Sequence[Seen], mechanism: Mechanism) -> Check:
    """The examples in the data push as hard and as often as the plan says: measured against it, the
    average push of one. A z-test: more is a clip, rate or number of steps beyond the plan's.

    Each example is tested by itself as well (Bernstein's inequality over all releases, which holds
    however few they are): one that counts twice is lost in the sum. Half of the error is for each.
    """
    pushed = expected = variance = 0.0
    largest, count = 1.0, sum(one.directions.count for one in seen)
    for one in seen:
        weights = one.included.astype(np.float64)
        joint = one.directions.gram(weights)
        size, releases = float(weights @ joint), len(one.along)
        pushed += float((one.along @ weights).sum())
        expected += releases * mechanism.mean * size
        variance += releases * mechanism.noise_variance * size
        variance += releases * mechanism.sampling_variance * float((weights * joint**2).sum())
        largest = min(largest, count * float(_tails(one, joint, mechanism).min()))
    measured = pushed / expected
    summed = 2 * float(norm.sf(abs(pushed - expected) / math.sqrt(variance)))
    return Check("push", measured, 1.0, min(1.0, 2 * min(summed, largest)))


def _tails(one: Seen, joint: Floats, mechanism: Mechanism) -> Floats:
    """(m,): at most how likely each example's push over all releases is as far off, either way."""
    releases = len(one.along)
    off = np.abs(one.along.sum(axis=0) - releases * mechanism.mean * joint)
    own, squares, most = one.directions.crosstalk(one.included)
    variance = mechanism.noise_variance * own + mechanism.sampling_variance * squares
    step = most * float(np.abs(mechanism.gains).max()) / 3
    scale = 2 * (releases * variance + off * step)
    found: Floats = 2 * np.exp(-(off**2) / np.maximum(scale, 1e-300))
    return found


def check_evenness(seen: Sequence[Seen], mechanism: Mechanism) -> Check:
    """No example pushes more than another: the spread of all pushes, measured against the plan's.

    Uneven are weights that follow the data, a sampling that repeats itself, and parts of a client
    or an example that are clipped by themselves.
    """
    spread = freedom = excess = 0.0
    for one in seen:
        releases, weights = len(one.along), one.included.astype(np.float64)
        off = one.along.sum(axis=0) - releases * mechanism.mean * one.directions.gram(weights)
        noise = releases * mechanism.noise_variance
        sampling = releases * mechanism.sampling_variance
        spread += one.directions.spread(off, noise, sampling * weights)
        freedom += one.directions.rank
        share = sampling / (sampling + noise)
        excess += float(weights.sum()) * mechanism.excess(releases) * share**2
    return Check("evenness", spread / freedom, 1.0, _spread_p_value(spread, freedom, excess))


def check_sampling(weights: Floats, mechanism: Mechanism) -> Check:
    """Examples are sampled one by one: the sums over a release spread as a binomial does.

    A sampler that draws batches of a fixed size, or shuffles, spreads less; one that draws
    neighbours together or a batch twice spreads more. Sums over examples and over releases are
    tested, and all of it together (Bonferroni); reported is the spread of a release's sum.

    Args:
        weights: (R, n) of n examples that are in the data, as read off releases of next to no
            noise.
    """
    releases, count = weights.shape
    each = mechanism.sampling_variance + mechanism.noise_variance
    if each == 0:  # everybody, every time, in plain sight
        measured = float(weights.mean() / mechanism.mean)
        return Check("sampling", measured, 1.0, float((weights == mechanism.mean).all()))
    share = (mechanism.sampling_variance / each) ** 2
    found = []
    for axis, added, rows in ((1, count, releases), (0, releases, count)):
        off = weights.sum(axis=axis) - added * mechanism.mean
        spread = float((off**2).sum()) / (added * each)
        excess = rows * mechanism.excess(added) * share
        found.append((spread / rows, _spread_p_value(spread, rows, excess)))
    off_all = float((weights - mechanism.mean).sum()) / math.sqrt(weights.size * each)
    p_value = min(1.0, 3 * min(found[0][1], found[1][1], 2 * float(norm.sf(abs(off_all)))))
    return Check("sampling", found[0][0], 1.0, p_value)


def check_counting(seen: Seen, asked: Floats, noise: float) -> Check:
    """Who is in a cohort counts once and nobody else does, in releases of next to no ``noise``.

    Of all weights read off, the one furthest from what was ``asked`` (R, n), against Gaussian noise
    (Bonferroni). The directions are axes of norm 1.
    """
    weights = np.stack([seen.directions.solve(one) for one in seen.along])[:, seen.included]
    most = float(np.abs(weights - asked).max())
    p_value = min(1.0, 2 * asked.size * float(norm.sf(most / noise)))
    return Check("counting", most, 0.0, p_value)


def check_spending(reported: float, least: float) -> Check:
    """The epsilon that a client reports is not less than its charges cost for certain: no chance is
    involved, so the p-value is 0 or 1."""
    return Check("spending", reported, least, float(reported >= least))


def _spread_p_value(spread: float, freedom: float, excess: float) -> float:
    """Two-sided, of a sum of ``freedom`` squares whose excess kurtoses add up to ``excess``: a
    chi-squared of the same mean and variance (Satterthwaite 1946)."""
    scale = max(1e-3, 1 + excess / (2 * freedom))
    ratio = spread / scale, freedom / scale
    return float(min(1.0, 2 * min(chi2.cdf(*ratio), chi2.sf(*ratio))))
