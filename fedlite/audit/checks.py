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
    """What was measured, what the plan says, and the p-value of so large a difference."""

    name: CheckName
    measured: float
    planned: float
    p_value: float

    def record(self, error: float) -> CheckEntry:
        """The entry of ``audits.json``; it fails where the p-value is below ``error``."""
        return {
            "name": self.name,
            "measured": self.measured,
            "planned": self.planned,
            "p_value": self.p_value,
            "passed": self.p_value >= error,
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
    """Where each of m examples pushes a release of d numbers, as rows (m, d)."""

    def __init__(self, rows: Floats) -> None:
        self.count, self.size = rows.shape
        self._axes = _axes(rows)
        self._rows = None if self._axes else rows
        if self._axes:  # an axis for each: nothing to solve
            self._vectors, self._values = None, self._axes[1] ** 2
            self.rank = self.count
            return
        values, vectors = np.linalg.eigh(rows @ rows.T)
        kept = values > _RANK_CUTOFF * values[-1]
        self._values, self._vectors = values[kept], vectors[:, kept]
        self.rank = int(kept.sum())

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
    its squared norm (R,) and a sample of its coordinates (R, k), whose places are ``sampled``.

    ``included`` (m,) are the examples that are in the data.
    """

    directions: Directions
    included: NDArray[np.bool_]
    along: Floats
    squares: Floats
    samples: Floats
    sampled: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        directions: Directions,
        included: NDArray[np.bool_],
        releases: Sequence[tuple[Floats, float, Floats]],
        sampled: NDArray[np.int64],
    ) -> Self:
        """From (inner products, squared norm, sample) of each release."""
        along, squares, samples = (np.stack(part) for part in zip(*releases, strict=True))
        return cls(directions, included, along, squares, samples, sampled)

    def residuals(self) -> Floats:
        """(R, k): the samples without what the examples' directions explain."""
        explained = [self.directions.total(self.directions.solve(one)) for one in self.along]
        return self.samples - np.stack(explained)[:, self.sampled]


def check_noise(seen: Sequence[Seen], mechanism: Mechanism) -> Check:
    """Beside what examples can push, a release holds Gaussian noise of the plan's size.

    The energy there is chi-squared: its p-value is two-sided, because noise of another size is
    another mechanism than the one that was charged.
    """
    energy = freedom = 0.0
    for one in seen:
        explained = [row @ one.directions.solve(row) for row in one.along]
        energy += float((one.squares - np.array(explained)).sum())
        freedom += len(one.squares) * (one.directions.size - one.directions.rank)
    measured = math.sqrt(max(0.0, energy) / freedom / mechanism.power)
    return Check("noise", measured, mechanism.noise, _two_sided(energy, mechanism, freedom))


def _two_sided(energy: float, mechanism: Mechanism, freedom: float) -> float:
    ratio = energy / mechanism.noise_variance
    return float(min(1.0, 2 * min(chi2.cdf(ratio, freedom), chi2.sf(ratio, freedom))))


def check_fresh_noise(seen: Sequence[Seen]) -> Check:
    """No two releases hold the same noise, or a part of it: the largest correlation of a pair.

    Of k coordinates of independent Gaussians (k - 1) ** 0.5 times a correlation is all but normal
    (Fisher's transform makes it so); the p-value counts every pair (Bonferroni).
    """
    noise = np.concatenate([one.residuals() for one in seen])
    lengths = np.linalg.norm(noise, axis=1)
    if len(noise) < 2 or not lengths.all():  # where there is none, check_noise says so
        return Check("fresh noise", 0.0, 0.0, 1.0)
    units = noise / lengths[:, None]
    pairs = np.triu_indices(len(units), 1)
    largest = float(np.abs((units @ units.T)[pairs]).max())
    free = max(1, noise.shape[1] - max(one.directions.rank for one in seen))
    score = math.atanh(min(largest, 1 - 1e-12)) * math.sqrt(max(1, free - 3))
    return Check("fresh noise", largest, 0.0, min(1.0, 2 * len(pairs[0]) * float(norm.sf(score))))


def check_push(seen: Sequence[Seen], mechanism: Mechanism) -> Check:
    """The examples in the data push as hard and as often as the plan says: measured against it, the
    average push of one. A z-test: more is a clip, rate or number of steps beyond the plan's."""
    pushed = expected = variance = 0.0
    for one in seen:
        weights = one.included.astype(np.float64)
        joint = one.directions.gram(weights)
        size, releases = float(weights @ joint), len(one.along)
        pushed += float((one.along @ weights).sum())
        expected += releases * mechanism.mean * size
        variance += releases * mechanism.noise_variance * size
        variance += releases * mechanism.sampling_variance * float((weights * joint**2).sum())
    measured = pushed / expected
    p_value = 2 * float(norm.sf(abs(pushed - expected) / math.sqrt(variance)))
    return Check("push", measured, 1.0, p_value)


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
