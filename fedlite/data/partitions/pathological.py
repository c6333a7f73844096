"""Every client has ``partition.classes_per_client`` classes only (McMahan et al. 2017)."""

from typing import Any

from fedlite.data.options import PartitionOptions
from fedlite.data.partition import FEWER, Partition


class Pathological(Partition):
    """The first class by turns, as McMahan et al., so that every class is used."""

    hint = f"lower partition.classes_per_client or {FEWER}"

    def build(self, options: PartitionOptions, num_clients: int, seed: int, min_size: int) -> Any:
        """The library's partitioner."""
        from flwr_datasets.partitioner import PathologicalPartitioner

        return PathologicalPartitioner(
            num_clients, "label", options.classes_per_client, "first-deterministic", seed=seed
        )


PARTITION = Pathological()
