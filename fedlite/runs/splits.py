"""The data of a run."""

from fedlite.data.splits import Splits, load_splits
from fedlite.federation.classes import class_members
from fedlite.runs.config import Config


def splits_of(config: Config, whole: Splits | None = None) -> Splits:
    """What ``config`` makes of its data set: public, private by client, test.

    Args:
        config: of the run; where it is one class of students, its clients alone are there.
        whole: the data set, divided among the clients of all classes, where it was read already.

    Raises:
        UsageError: the data cannot be read, or the sizes asked for do not fit.
    """
    federation = config.federation
    if whole is None:
        whole = load_splits(config.dataset, config.partition, federation.num_clients, config.seed)
    if not federation.class_name:
        return whole
    members = class_members(federation.classes, whole.num_clients, config.seed)
    return whole.of_clients(members[federation.class_name])
