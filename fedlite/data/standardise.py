"""Constants that inputs are standardised by, from public examples alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.data.options import Standardise

NORMAL_IQR = 1.349  # interquartile range of a normal distribution, in standard deviations


def constants_of(
    public: NDArray[Any], how: Standardise
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is subtracted and what is divided by, one value for each leading dimension.

    ``standard``: mean and standard deviation. ``robust``: median and interquartile range over that
    of a normal distribution, which single outliers do not move; where the quartiles are equal, as
    in sparse features, the median distance of the values that differ from it. ``none``: 0 and 1.
    Constant values are only centred.

    Args:
        public: (n, C, ...) public inputs, divided by their scale.
        how: ``dataset.standardise``.
    """
    values = np.asarray(public, dtype=np.float64)
    others = tuple(axis for axis in range(values.ndim) if axis != 1)
    if how == "none":
        return np.zeros(values.shape[1]), np.ones(values.shape[1])
    if how == "standard":
        centre, spread = values.mean(axis=others), values.std(axis=others)
    else:
        low, centre, high = np.quantile(values, (0.25, 0.5, 0.75), axis=others)
        spread = (high - low) / NORMAL_IQR
        for one in np.flatnonzero(spread <= _least(centre)):
            distances = np.abs(values[:, one] - centre[one])
            apart = distances[distances > _least(centre[one])]
            spread[one] = np.median(apart) if len(apart) else 0.0
    return centre, np.where(spread > _least(centre), spread, 1.0)


def _least(centre: Any) -> Any:
    """The smallest spread that is none of rounding."""
    return 1e-6 * np.abs(centre) + 1e-12
