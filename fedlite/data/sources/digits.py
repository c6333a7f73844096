"""The ``digits`` source: the 1,797 8x8 digits inside scikit-learn."""

import numpy as np
from sklearn.datasets import load_digits

from fedlite.data.options import DatasetOptions
from fedlite.data.raw import RawData


def read(options: DatasetOptions) -> RawData:
    """The digits, values 0 to 16; they have no test part."""
    digits = load_digits()
    return RawData(
        inputs_train=digits.images.astype(np.uint8)[:, None],
        labels_train=digits.target,
        scale=16.0,
    )
