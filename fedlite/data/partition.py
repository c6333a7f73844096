"""Which client holds which private example, by the partitioners of ``flwr_datasets``."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.base.errors import UsageError
from fedlite.data.options import PARTITIONS, PartitionOptions

FEWER = "lower federation.num_clients"

Rows = NDArray[np.int64]


class Partition:
    """One way to divide examples among clients; the modules of ``data/partitions`` hold one each.

    ``hint`` says what would help where a division is not possible. ``whole_groups`` says that
    public, held-out and test parts too are drawn as whole natural ids.
    """

    hint: str = FEWER
    whole_groups: bool = False

    def count_clients(
        self,
        labels: Rows,
        groups: Rows | None,
        options: PartitionOptions,
        num_clients: int | None,
    ) -> int:
        """How many clients there are; refuses what cannot be divided.

        Raises:
            UsageError: names the option and what would be right.
        """
        if num_clients is None:
            raise UsageError("federation.num_clients=null: give a number, or use partition=natural")
        if num_clients > len(labels):
            raise UsageError(
                f"partition={options.name}: {len(labels)} private examples cannot serve"
                f" {num_clients} clients; {FEWER}"
            )
        return num_clients

    def build(self, options: PartitionOptions, num_clients: int, seed: int, min_size: int) -> Any:
        """The library's partitioner of a data set with columns ``label`` and ``group``."""
        raise NotImplementedError

    def reason(
        self, said: str, options: PartitionOptions, num_clients: int, empty: Callable[[], str]
    ) -> str:
        """Why a division failed, in words; ``empty`` finds which clients would hold nothing."""
        return said


def partition_of(options: PartitionOptions) -> Partition:
    """The partition that ``options`` name.

    Raises:
        UsageError: there is none of this name, or it is no :class:`Partition`.
    """
    found = PARTITIONS.find(options.name)
    if not isinstance(found, Partition):
        raise UsageError(f"partition.name={options.name}: is no fedlite.data.partition.Partition")
    return found


def partition_rows(
    labels: Rows,
    groups: Rows | None,
    config: PartitionOptions,
    num_clients: int | None,
    seed: int,
) -> list[Rows]:
    """Divide examples among clients; the same seed gives the same division.

    ``shards`` leaves out the fewer than ``num_clients * shards_per_client`` examples that fill no
    shard, and ``pathological`` the classes that no client drew; the others divide all examples.

    Args:
        labels: (n,) class of each example.
        groups: (n,) natural id of each example; only ``natural`` reads it.
        config: the partitioner and its settings.
        num_clients: how many parts; None, only for ``natural``: one per natural id.
        seed: fixes every draw.

    Returns:
        for each client its positions in ``labels``, ascending.

    Raises:
        UsageError: the division is not possible, or would leave a client without an example.
    """
    partition = partition_of(config)
    clients = partition.count_clients(labels, groups, config, num_clients)
    # Some partitioners cut the examples in the order they come in, so the order is drawn first.
    order = np.random.default_rng(seed).permutation(len(labels))
    columns = {"row": order, "label": labels[order]}
    if groups is not None:
        columns["group"] = groups[order]

    def divide(min_size: int) -> list[Rows]:
        return _divide(columns, partition, config, clients, seed, min_size)

    try:
        parts = divide(1)
    except ValueError as error:
        said = str(error).split(". ")[0].rstrip(".")
        reason = partition.reason(said, config, clients, lambda: _empty(divide(0)))
        raise UsageError(f"partition={config.name}: {reason}; {partition.hint}") from error
    if any(len(part) == 0 for part in parts):
        raise UsageError(f"partition={config.name}: {_empty(parts)}; {partition.hint}")
    return parts


def _divide(
    columns: dict[str, Rows],
    partition: Partition,
    config: PartitionOptions,
    num_clients: int,
    seed: int,
    min_size: int,
) -> list[Rows]:
    import datasets  # seconds to import, so only where used

    with _quiet():
        partitioner = partition.build(config, num_clients, seed, min_size)
        partitioner.dataset = datasets.Dataset.from_dict(columns)
        partitioner.load_partition(0)  # from now on it has divided, and ordered, all rows
        ordered = partitioner.dataset
        rows = np.array(ordered["row"][:], dtype=np.int64)
        # The library makes a data set of each part, which takes most of a start with many clients.
        ordered.select = lambda indices, **_: rows[np.asarray(indices, dtype=np.int64)]
        return [np.sort(partitioner.load_partition(client)) for client in range(num_clients)]


def _empty(parts: list[Rows]) -> str:
    empty = [client for client, part in enumerate(parts) if len(part) == 0]
    return f"client {empty[0]} would hold no example ({len(empty)} of {len(parts)} clients)"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library's progress bars and warnings, off; what matters comes as an exception."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
