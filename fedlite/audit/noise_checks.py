"""Is the noise that was added the noise of the plan? Tests of what no example can push.

Of the plan's size in every array of the model, drawn anew for each release, independent from one
coordinate to the next, and Gaussian. Where fewer than :data:`FEWEST_FREE` numbers are left free of
examples (a student of few weights) a check is not tested, and says so.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import chi2, kstest, kurtosistest, norm
from scipy.stats import kurtosis as excess_kurtosis

from fedlite.audit.checks import Check, Floats, Mechanism, Seen

FEWEST_FREE = 30  # numbers that no example pushes
_LEAST_SHARE = 0.1  # of an array; where examples explain more of it, errors of theirs would count
_LAGS = (1, 2, 3, 4)


def check_noise(seen: Sequence[Seen], mechanism: Mechanism) -> Check:
    """Beside what examples can push, a release holds Gaussian noise of the plan's size, and so does
    each array of it: noise that small arrays lack is lost in the energy of all.

    The energy there is chi-squared (in one array, of the same mean and variance: Satterthwaite
    1946). Its p-value is two-sided, because noise of another size is another mechanism than the one
    that was charged, and counts every array (Bonferroni). Reported is the oddest multiplier.
    """
    if min(one.directions.size - one.directions.rank for one in seen) < FEWEST_FREE:
        return Check("noise", mechanism.noise, mechanism.noise, 1.0, tested=False)
    energy = np.sum([one.energies.sum(axis=0) for one in seen], axis=0)
    free = np.sum([len(one.along) * one.directions.free for one in seen], axis=0)
    sizes = np.array(seen[0].directions.parts)
    share = free[:, 0] / (sizes * sum(len(one.along) for one in seen))
    left = sum(len(one.along) * (one.directions.size - one.directions.rank) for one in seen)
    tests = [(float(energy.sum()), float(left), float(left))]
    if len(sizes) > 1:
        kept = (free[:, 0] >= FEWEST_FREE) & (share >= _LEAST_SHARE)
        found = zip(energy[kept], free[kept, 0], free[kept, 1], strict=True)
        tests += [(float(e), float(trace), float(square)) for e, trace, square in found]
    p_values = [_two_sided(*one, mechanism.noise_variance) for one in tests]
    oddest = int(np.argmin(p_values))
    measured = math.sqrt(tests[oddest][0] / tests[oddest][1] / mechanism.power)
    p_value = min(1.0, len(tests) * p_values[oddest])
    return Check("noise", measured, mechanism.noise, p_value)


def _two_sided(energy: float, trace: float, square: float, variance: float) -> float:
    freedom = trace**2 / square
    ratio = energy / variance * freedom / trace
    return float(min(1.0, 2 * min(chi2.cdf(ratio, freedom), chi2.sf(ratio, freedom))))


def check_fresh_noise(seen: Sequence[Seen]) -> Check:
    """No two releases hold the same noise, or a part of it: the largest correlation of a pair.

    Of k coordinates of independent Gaussians (k - 1) ** 0.5 times a correlation is all but normal
    (Fisher's transform makes it so); the p-value counts every pair (Bonferroni).
    """
    noise = np.concatenate([one.samples for one in seen])
    lengths = np.linalg.norm(noise, axis=1)
    free = noise.shape[1] - max(one.directions.rank for one in seen)
    if len(noise) < 2 or free < FEWEST_FREE or not lengths.all():  # none: check_noise says so
        return Check("fresh noise", 0.0, 0.0, 1.0, tested=False)
    units = noise / lengths[:, None]
    pairs = np.triu_indices(len(units), 1)
    largest = float(np.abs((units @ units.T)[pairs]).max())
    score = math.atanh(min(largest, 1 - 1e-12)) * math.sqrt(free - 3)
    return Check("fresh noise", largest, 0.0, min(1.0, 2 * len(pairs[0]) * float(norm.sf(score))))


def check_neighbours(seen: Sequence[Seen]) -> Check:
    """No coordinate shares its noise with a neighbour: the largest correlation of coordinates that
    lie 1 to 4 apart, over all releases, among those that nothing pushes.

    Fisher's transform makes it all but normal; the p-value counts every distance (Bonferroni).
    """
    found = [one for lag in _LAGS if (one := _correlation(seen, lag)) is not None]
    if not found:
        return Check("neighbours", 0.0, 0.0, 1.0, tested=False)
    scores = [abs(math.atanh(max(-1 + 1e-12, min(r, 1 - 1e-12)))) * math.sqrt(n) for r, n in found]
    oddest = int(np.argmax(scores))
    p_value = min(1.0, 2 * len(found) * float(norm.sf(scores[oddest])))
    return Check("neighbours", found[oddest][0], 0.0, p_value)


def _correlation(seen: Sequence[Seen], lag: int) -> tuple[float, int] | None:
    """Of untouched coordinates ``lag`` apart, and of how many pairs; None where they are few."""
    firsts, seconds = [], []
    for one in seen:
        places, values = one.untouched
        _, first, second = np.intersect1d(places, places - lag, return_indices=True)
        firsts.append(values[:, first].ravel())
        seconds.append(values[:, second].ravel())
    left, right = np.concatenate(firsts), np.concatenate(seconds)
    size = math.sqrt(float(left @ left) * float(right @ right))
    return (float(left @ right) / size, len(left)) if len(left) >= FEWEST_FREE and size else None


def check_shape(seen: Sequence[Seen], mechanism: Mechanism) -> Check:
    """The noise is Gaussian: its excess kurtosis among coordinates that nothing pushes (Anscombe
    and Glynn 1983), and its distribution against the normal one of the plan's size (Kolmogorov and
    Smirnov). Half of the error is for each; reported is the kurtosis."""
    values: Floats = np.concatenate([one.untouched[1].ravel() for one in seen])
    if len(values) < FEWEST_FREE or not values.any():
        return Check("shape", 0.0, 0.0, 1.0, tested=False)
    scaled = values / math.sqrt(mechanism.noise_variance)
    least = min(float(kurtosistest(scaled).pvalue), float(kstest(scaled, "norm").pvalue))
    return Check("shape", float(excess_kurtosis(scaled)), 0.0, min(1.0, 2 * least))
