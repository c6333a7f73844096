"""Examples sorted by class and cut into shards, some for each client (McMahan et al., 2017)."""

from typing import Any

from fedlite.base.errors import UsageError
from fedlite.data.options import PartitionOptions
from fedlite.data.partition import FEWER, Partition, Rows


class Shards(Partition):
    """Equal shards; what fills none is left out."""

    hint = f"lower partition.shards_per_client or {FEWER}"

    def count_clients(
        self, labels: Rows, groups: Rows | None, options: PartitionOptions, num_clients: int | None
    ) -> int:
        """As given, where there are enough examples for all shards."""
        clients = super().count_clients(labels, groups, options, num_clients)
        if clients * options.shards_per_client > len(labels):
            raise UsageError(
                f"partition=shards: {len(labels)} private examples do not fill"
                f" {clients} x {options.shards_per_client} shards; {self.hint}"
            )
        return clients

    def build(self, options: PartitionOptions, num_clients: int, seed: int, min_size: int) -> Any:
        """The library's partitioner."""
        from flwr_datasets.partitioner import ShardPartitioner

        return ShardPartitioner(num_clients, "label", options.shards_per_client, seed=seed)


PARTITION = Shards()
