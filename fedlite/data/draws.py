"""Seeded draws of some examples out of many: stratified by class, or whole natural ids."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

# Each purpose draws from a stream of its own: changing one option never moves another draw.
_PURPOSES = ("test", "holdout", "public", "validation", "partition")


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The random stream of one purpose."""
    return np.random.default_rng([seed, _PURPOSES.index(purpose)])


def draw(
    pool: Rows,
    size: int,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    rng: np.random.Generator,
) -> tuple[Rows, Rows]:
    """Split ``pool`` (rows of ``labels`` and ``groups``) into the drawn rows and the rest.

    Without ``groups`` exactly ``size`` rows, stratified by class. With them whole groups until
    ``size`` rows are reached, but never the last group.

    Returns:
        drawn rows and other rows, each ascending.
    """
    if groups is None:
        taken = _stratified(labels[pool], size, rng)
    else:
        taken = _whole_groups(groups[pool], size, rng)
    return pool[taken], pool[~taken]


def _stratified(
    labels: NDArray[np.int64], size: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Every class in proportion, to within one example: the ``size`` lowest shuffled quantiles."""
    quantile = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        quantile[rng.permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    taken = np.zeros(len(labels), dtype=np.bool_)
    taken[np.lexsort((rng.random(len(labels)), quantile))[:size]] = True
    return taken


def _whole_groups(
    groups: NDArray[np.int64], size: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Groups in random order until their examples reach ``size``; at least one group stays."""
    ids, counts = np.unique(groups, return_counts=True)
    order = rng.permutation(len(ids))
    needed = int(np.searchsorted(np.cumsum(counts[order]), size)) + 1
    return np.isin(groups, ids[order[: min(needed, len(ids) - 1)]])
