"""Which client holds which private example, by the partitioners of ``flwr_datasets``."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlite.config import PartitionConfig
from fedlite.errors import UsageError

_FEWER = "lower federation.num_clients"
_HINTS = {
    "iid": _FEWER,
    "dirichlet": f"raise partition.alpha or {_FEWER}",
    "pathological": f"lower partition.classes_per_client or {_FEWER}",
    "shards": f"lower partition.shards_per_client or {_FEWER}",
    "size": f"use partition.skew=linear or {_FEWER}",
    "natural": "use another partition",
}


def partition_rows(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    config: PartitionConfig,
    num_clients: int | None,
    seed: int,
) -> list[NDArray[np.int64]]:
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
    name = config.name
    if name == "natural":
        num_clients = _natural_count(groups, num_clients)
    elif num_clients is None:
        raise UsageError("federation.num_clients=null: give a number, or use partition=natural")
    elif num_clients > len(labels):
        raise UsageError(
            f"partition={name}: {len(labels)} private examples cannot serve {num_clients} clients;"
            f" {_FEWER}"
        )
    if name == "shards" and num_clients * config.shards_per_client > len(labels):
        raise UsageError(
            f"partition=shards: {len(labels)} private examples do not fill"
            f" {num_clients} x {config.shards_per_client} shards; {_HINTS[name]}"
        )
    # Some partitioners cut the examples in the order they come in, so the order is drawn first.
    order = np.random.default_rng(seed).permutation(len(labels))
    columns = {"row": order, "label": labels[order]}
    if groups is not None:
        columns["group"] = groups[order]
    try:
        parts = _divide(columns, config, num_clients, seed)
    except ValueError as error:
        reason = str(error).split(". ")[0].rstrip(".")
        if name == "dirichlet":
            parts = _divide(columns, config, num_clients, seed, min_size=0)
            reason = f"{_empty(parts)} in the first of several draws with alpha {config.alpha:g}"
        elif name == "size":
            reason = f"client 0, the smallest of {num_clients}, would hold no example"
        raise UsageError(f"partition={name}: {reason}; {_HINTS[name]}") from error
    if any(len(part) == 0 for part in parts):
        raise UsageError(f"partition={name}: {_empty(parts)}; {_HINTS[name]}")
    return parts


def _natural_count(groups: NDArray[np.int64] | None, num_clients: int | None) -> int:
    if groups is None:
        raise UsageError(
            "partition=natural: the data set gives no natural ids; name them in"
            " dataset.keys.groups_train (groups for huggingface) or use another partition"
        )
    found = len(np.unique(groups))
    if num_clients not in (None, found):
        raise UsageError(
            f"federation.num_clients={num_clients}: the natural partition has {found} private"
            f" clients; use federation.num_clients=null or {found}"
        )
    return found


def _divide(
    columns: dict[str, NDArray[np.int64]],
    config: PartitionConfig,
    num_clients: int,
    seed: int,
    min_size: int = 1,
) -> list[NDArray[np.int64]]:
    import datasets  # seconds to import, so only where used

    with _quiet():
        partitioner = _partitioner(config, num_clients, seed, min_size)
        partitioner.dataset = datasets.Dataset.from_dict(columns)
        return [
            np.sort(np.array(partitioner.load_partition(client)["row"][:], dtype=np.int64))
            for client in range(num_clients)
        ]


def _partitioner(config: PartitionConfig, num_clients: int, seed: int, min_size: int) -> Any:
    from flwr_datasets import partitioner as library

    match config.name:
        case "iid":
            return library.IidPartitioner(num_clients)
        case "dirichlet":
            return library.DirichletPartitioner(
                num_clients, "label", config.alpha, min_partition_size=min_size, seed=seed
            )
        case "pathological":
            # As McMahan et al. 2017: the first class by turns, so that every class is used.
            return library.PathologicalPartitioner(
                num_clients, "label", config.classes_per_client, "first-deterministic", seed=seed
            )
        case "shards":
            return library.ShardPartitioner(
                num_clients, "label", config.shards_per_client, seed=seed
            )
        case "size":
            return {
                "linear": library.LinearPartitioner,
                "square": library.SquarePartitioner,
                "exponential": library.ExponentialPartitioner,
            }[config.skew](num_clients)
        case "natural":
            return library.NaturalIdPartitioner("group")
    raise UsageError(f"partition.name={config.name}: must be one of {', '.join(_HINTS)}")


def _empty(parts: list[NDArray[np.int64]]) -> str:
    empty = [client for client, part in enumerate(parts) if len(part) == 0]
    return f"client {empty[0]} would hold no example ({len(empty)} of {len(parts)} clients)"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library's progress bars and warnings, off; what matters comes as an exception."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
