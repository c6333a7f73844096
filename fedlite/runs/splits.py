"""The data of a run."""

from fedlite.data.splits import Splits, load_splits
from fedlite.runs.config import Config


def splits_of(config: Config) -> Splits:
    """What ``config`` makes of its data set: public, private by client, test.

    Raises:
        UsageError: the data cannot be read, or the sizes asked for do not fit.
    """
    return load_splits(config.dataset, config.partition, config.federation.num_clients, config.seed)
