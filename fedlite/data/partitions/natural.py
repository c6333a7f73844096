"""One client for each natural id in the data (person, writer, device); their number follows."""

from typing import Any

import numpy as np

from fedlite.base.errors import UsageError
from fedlite.data.options import PartitionOptions
from fedlite.data.partition import Partition, Rows


class Natural(Partition):
    """Whole natural ids, in the public and test parts too."""

    hint = "use another partition"
    whole_groups = True

    def count_clients(
        self, labels: Rows, groups: Rows | None, options: PartitionOptions, num_clients: int | None
    ) -> int:
        """The number of natural ids; a number that is given must be that."""
        if groups is None:
            raise UsageError(
                "partition=natural: the data set gives no natural ids; name them in"
                " dataset.keys.groups (groups_train of arrays) or use another partition"
            )
        found = len(np.unique(groups))
        if num_clients not in (None, found):
            raise UsageError(
                f"federation.num_clients={num_clients}: the natural partition has {found} private"
                f" clients; use federation.num_clients=null or {found}"
            )
        return found

    def build(self, options: PartitionOptions, num_clients: int, seed: int, min_size: int) -> Any:
        """The library's partitioner."""
        from flwr_datasets.partitioner import NaturalIdPartitioner

        return NaturalIdPartitioner("group")


PARTITION = Natural()
