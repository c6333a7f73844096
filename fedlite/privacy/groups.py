"""Group privacy: what a history of Poisson-sampled Gaussian steps costs several units together.

An epsilon for one example (or client) says little of a person who has many. At a fixed delta it is
not true that k of them cost at most k times as much: after 100 steps of noise multiplier 4 on whole
batches, at delta 1e-6, one costs 14.5 and ten cost 430. What holds follows from the mechanism.

Neighbours differ in k units. In each step each of them is sampled by itself with probability q, so
j of them are in the batch with j ~ Bin(k, q) and move the clipped sum by j clip norms at most. In
one dimension that is a mixture of Gaussians N(j, z^2) against N(0, z^2), which dominates the step
in both directions (Ganesh 2024, "Tight Group-Level DP Guarantees for DP-SGD with Sampling via
Mixture of Gaussians Mechanisms", arXiv 2401.10294; that a larger j only makes it worse, vectors
included, is from Choquette-Choo, Ganesh, Steinke and Thakurta 2024, arXiv 2310.15526). Domination
holds under adaptive composition.

The same monotonicity gives a looser bound that every accountant can compute: j is at most k where
it is not 0, so a step is no worse than one of noise multiplier z / k at rate 1 - (1 - q)^k.
"""

import math
import warnings
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from dp_accounting.pld import privacy_loss_distribution
from scipy.stats import binom

from fedlite.privacy.accounting import Segment, compute_epsilon, merge_segments

GROUP_SIZES = (2, 10)  # what reports show
COARSEST_INTERVAL = 2.0**-3  # between the privacy losses of the grid
LARGEST_STEP_GRID, LARGEST_GRID = 2**12, 2**24  # points, for one step and for all


def group_epsilon(history: Iterable[Segment], size: int, delta: float, accountant: str) -> float:
    """An epsilon at ``delta`` that holds for ``size`` units together.

    Args:
        history: (noise multiplier, sample rate, steps) as charged for one unit.
        size: number of units in which neighbours differ, 1 or more.
        delta: of the claim; the same as for one unit.
        accountant: ``rdp`` composes the looser bound by RDP, as do histories of more than one kind
            of step; the others compose the mixture itself (dp-accounting, rounded upwards) where
            that is smaller.
    """
    merged = merge_segments(history)
    if size == 1:
        return compute_epsilon(merged, delta, accountant)
    together = [(z / size, _any_sampled(q, size), steps) for z, q, steps in merged]
    bound = compute_epsilon(together, delta, "rdp")
    if accountant == "rdp" or len(merged) != 1 or not math.isfinite(bound):
        return bound
    return min(bound, _mixture_epsilon(*merged[0], size, delta))


def largest_histories(histories: Iterable[Iterable[Segment]]) -> list[tuple[Segment, ...]]:
    """The merged histories that no other contains: among them is whatever costs most.

    >>> largest_histories([[(1.0, 0.5, 3)], [(1.0, 0.5, 4)], [(1.0, 0.5, 2), (2.0, 0.5, 1)]])
    [((1.0, 0.5, 2), (2.0, 0.5, 1)), ((1.0, 0.5, 4),)]
    """
    merged = sorted({merge_segments(one) for one in histories})
    steps = [{(z, q): count for z, q, count in one} for one in merged]
    return [
        one
        for one, own in zip(merged, steps, strict=True)
        if not any(
            other is not own and all(other.get(kind, 0) >= own[kind] for kind in own)
            for other in steps
        )
    ]


def _any_sampled(sample_rate: float, size: int) -> float:
    """Probability that a batch holds at least one of ``size`` units."""
    return 1.0 if sample_rate == 1 else -math.expm1(size * math.log1p(-sample_rate))


@lru_cache(maxsize=64)
def _mixture_epsilon(
    noise_multiplier: float, sample_rate: float, steps: int, size: int, delta: float
) -> float:
    """Epsilon of ``steps`` mixtures of Gaussians; remembered."""
    step = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        noise_multiplier,
        sensitivities=[float(sampled) for sampled in range(size + 1)],
        sampling_probs=list(binom.pmf(np.arange(size + 1), size, sample_rate)),
        value_discretization_interval=_interval(noise_multiplier / size, sample_rate, steps, size),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an epsilon too large for a float comes out as infinity
        return float(step.self_compose(steps).get_epsilon_for_delta(delta))


def _interval(noise_multiplier: float, sample_rate: float, steps: int, size: int) -> float:
    """A twelfth of the spread of one step's privacy loss, coarser where the grid grew too large."""
    variance = _any_sampled(sample_rate, size) ** 2 * math.expm1(min(700.0, noise_multiplier**-2))
    finest = min(COARSEST_INTERVAL, math.sqrt(math.log1p(variance)) / 12)
    widest = noise_multiplier**-2 / 2 + 10 / noise_multiplier
    return max(finest, widest / LARGEST_STEP_GRID, widest * steps / LARGEST_GRID)
