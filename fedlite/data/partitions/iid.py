"""Every client draws from the same distribution and has as many examples."""

from typing import Any

from fedlite.data.options import PartitionOptions
from fedlite.data.partition import Partition


class Iid(Partition):
    """Equal parts of a random order."""

    def build(self, options: PartitionOptions, num_clients: int, seed: int, min_size: int) -> Any:
        """The library's partitioner."""
        from flwr_datasets.partitioner import IidPartitioner

        return IidPartitioner(num_clients)


PARTITION = Iid()
