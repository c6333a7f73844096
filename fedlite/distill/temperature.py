"""Temperature scaling: one number that makes a model as sure as it is right, from public data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.base.calibration import probabilities_of
from fedlite.data.types import PublicData
from fedlite.distill.public import require_public

ENOUGH = 20  # examples to fit one number by
COLDEST, HOTTEST = 0.05, 20.0


def fit_temperature(logits: NDArray[Any], public: PublicData) -> float:
    """The temperature of the smallest mean cross-entropy of ``softmax(logits / temperature)``.

    Guo et al. (2017), arXiv 1706.04599, section 4.2. The true class counts ``1 - 1/(n + 2)`` and
    all classes share the rest, as Platt (1999) softens targets: a few examples that are all right
    would else make a model certain. What is fitted is post-processing (rule 12).

    Args:
        logits: (n, classes) of the file that ships, on ``public``.
        public: examples that trained no model.

    Raises:
        TypeError: ``public`` is not :class:`PublicData`.
    """
    require_public(public)
    from scipy.optimize import minimize_scalar  # late: slow to load

    labels, (examples, classes) = public.labels.numpy(), logits.shape
    softened = 1 / (examples + 2)
    targets = np.full(logits.shape, softened / classes)
    targets[np.arange(examples), labels] += 1 - softened

    def loss(log_temperature: float) -> float:
        shares = probabilities_of(logits, float(np.exp(log_temperature)))
        return float(-(targets * np.log(np.maximum(shares, 1e-300))).sum(axis=1).mean())

    bounds = (float(np.log(COLDEST)), float(np.log(HOTTEST)))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
