"""Client sizes grow with the client number: ``partition.skew`` linear, square or exponential."""

from collections.abc import Callable
from typing import Any

from fedlite.data.options import PartitionOptions
from fedlite.data.partition import FEWER, Partition


class Size(Partition):
    """Equal distributions, unequal sizes."""

    hint = f"use partition.skew=linear or {FEWER}"

    def build(self, options: PartitionOptions, num_clients: int, seed: int, min_size: int) -> Any:
        """The library's partitioner."""
        from flwr_datasets import partitioner as library

        return {
            "linear": library.LinearPartitioner,
            "square": library.SquarePartitioner,
            "exponential": library.ExponentialPartitioner,
        }[options.skew](num_clients)

    def reason(
        self, said: str, options: PartitionOptions, num_clients: int, empty: Callable[[], str]
    ) -> str:
        """The library divides by zero."""
        return f"client 0, the smallest of {num_clients}, would hold no example"


PARTITION = Size()
