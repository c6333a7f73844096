"""Reads the raw examples of a data set from the source that its configuration names."""

import numpy as np
from sklearn.datasets import load_digits

from fedlite.config import DatasetConfig
from fedlite.data.huggingface import read_huggingface
from fedlite.data.idx import read_idx
from fedlite.data.npz import read_npz
from fedlite.data.raw import RawData, check_raw
from fedlite.errors import UsageError


def read_source(config: DatasetConfig) -> RawData:
    """Read and check the examples of ``config``; nothing is split or normalised yet.

    Raises:
        UsageError: the source cannot be read or holds bad values; one line says what and where.
    """
    if config.source not in _READERS:
        raise UsageError(f"dataset.source={config.source}: must be one of {', '.join(_READERS)}")
    return check_raw(_READERS[config.source](config), config)


def _read_digits(config: DatasetConfig) -> RawData:
    """The 1,797 8x8 digits inside scikit-learn, values 0 to 16; they have no test part."""
    digits = load_digits()
    return RawData(
        inputs_train=digits.images.astype(np.uint8)[:, None],
        labels_train=digits.target,
        scale=16.0,
    )


_READERS = {
    "digits": _read_digits,
    "idx": read_idx,
    "npz": read_npz,
    "huggingface": read_huggingface,
}
