"""Class shares of each client follow a Dirichlet distribution (Yurochkin et al. 2019)."""

from collections.abc import Callable
from typing import Any

from fedlite.data.options import PartitionOptions
from fedlite.data.partition import FEWER, Partition


class Dirichlet(Partition):
    """``partition.alpha`` says how even."""

    hint = f"raise partition.alpha or {FEWER}"

    def build(self, options: PartitionOptions, num_clients: int, seed: int, min_size: int) -> Any:
        """The library's partitioner."""
        from flwr_datasets.partitioner import DirichletPartitioner

        return DirichletPartitioner(
            num_clients, "label", options.alpha, min_partition_size=min_size, seed=seed
        )

    def reason(
        self, said: str, options: PartitionOptions, num_clients: int, empty: Callable[[], str]
    ) -> str:
        """The library draws several times before it gives up."""
        return f"{empty()} in the first of several draws with alpha {options.alpha:g}"


PARTITION = Dirichlet()
