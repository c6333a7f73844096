"""The split of a data set into public, private (by client), held-out and test parts."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlite.config import DatasetConfig, PartitionConfig
from fedlite.data.draws import Rows, draw, generator
from fedlite.data.partition import partition_rows
from fedlite.data.raw import Array, RawData
from fedlite.data.sources import read_source
from fedlite.data.types import ClientData, PublicData, Task, TestData
from fedlite.errors import UsageError


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set, split once. No example is in two parts.

    ``public`` is the training part of the public data and ``public_validation`` the rest of it;
    ``test`` is the test part, or the held-out training examples (``evaluate_on=holdout``).
    Private examples stay in their raw type and are normalised one client at a time.
    """

    task: Task
    public: PublicData
    public_validation: PublicData
    test: TestData
    _inputs: Tensor = field(repr=False)
    _labels: Tensor = field(repr=False)
    _rows: tuple[Rows, ...] = field(repr=False)

    @property
    def num_clients(self) -> int:
        """Number of clients."""
        return len(self._rows)

    def client(self, client_id: int) -> ClientData:
        """The private data of one client, normalised.

        Raises:
            UsageError: there is no such client.
        """
        if not 0 <= client_id < self.num_clients:
            raise UsageError(f"client {client_id}: there are clients 0 to {self.num_clients - 1}")
        rows = torch.from_numpy(self._rows[client_id])
        return ClientData(client_id, self.task.normalise(self._inputs[rows]), self._labels[rows])

    def class_counts(self) -> NDArray[np.int64]:
        """Examples per client and class (clients, classes); only a simulation may look."""
        labels, classes = self._labels.numpy(), self.task.num_classes
        return np.stack([np.bincount(labels[rows], minlength=classes) for rows in self._rows])

    def client_sizes(self) -> list[int]:
        """Examples per client; only a simulation may look."""
        return [len(rows) for rows in self._rows]


def load_splits(
    config: DatasetConfig, partition: PartitionConfig, num_clients: int | None, seed: int
) -> Splits:
    """Read a data set and split it; the same arguments always give the same split.

    In this order: a test part (where the source has none), ``holdout_size`` training examples,
    the public part (``public_size``, or ``public_fraction`` of what is left), and the rest to the
    clients. Draws are stratified by class; with ``partition=natural`` they are of whole natural
    ids, until the size is reached. Normalisation comes from the public training part alone.

    Raises:
        UsageError: the data cannot be read, or the sizes asked for do not fit.
    """
    raw = read_source(config)
    labels = raw.labels_train
    groups = raw.groups if partition.name == "natural" else None

    def take(pool: Rows, size: int, purpose: str, key: str, clients: int = 1) -> tuple[Rows, Rows]:
        if size + clients > len(pool):
            raise UsageError(
                f"{key}: {size} of {len(pool)} training examples leave too few for {clients}"
                f" client(s); lower {key} or federation.num_clients"
            )
        taken, rest = draw(pool, size, labels, groups, generator(seed, purpose))
        if len(taken) < size:
            raise UsageError(
                f"{key}: {size} of {len(pool)} training examples, drawn as whole natural ids, leave"
                f" no private client; lower {key}"
            )
        return taken, rest

    rows: Rows = np.arange(len(labels))
    test_rows = held_rows = rows[:0]
    if raw.inputs_test is None:
        size = _share(config.test_fraction, len(rows))
        test_rows, rows = take(rows, size, "test", "dataset.test_fraction")
    if config.holdout_size:
        held_rows, rows = take(rows, config.holdout_size, "holdout", "dataset.holdout_size")
    size = config.public_size or _share(config.public_fraction, len(rows))
    clients = num_clients if num_clients and groups is None else 1
    public_rows, rows = take(rows, size, "public", "dataset.public_size", clients)
    validation_rows, public_rows = _split_public(public_rows, labels, groups, config, seed)

    client_rows = partition_rows(
        labels[rows],
        None if groups is None else groups[rows],
        partition,
        num_clients,
        int(generator(seed, "partition").integers(2**31)),
    )
    task = _describe(raw, public_rows, config)

    def part(inputs: Array, labels: Array) -> tuple[Tensor, Tensor]:
        return task.normalise(torch.from_numpy(inputs)), torch.from_numpy(labels)

    def training_part(rows: Rows) -> tuple[Tensor, Tensor]:
        return part(raw.inputs_train[rows], labels[rows])

    if config.evaluate_on == "holdout":
        test = TestData(*training_part(held_rows))
    elif raw.inputs_test is not None and raw.labels_test is not None:
        test = TestData(*part(raw.inputs_test, raw.labels_test))
    else:
        test = TestData(*training_part(test_rows))
    return Splits(
        task=task,
        public=PublicData(*training_part(public_rows)),
        public_validation=PublicData(*training_part(validation_rows)),
        test=test,
        _inputs=torch.from_numpy(raw.inputs_train),
        _labels=torch.from_numpy(labels),
        _rows=tuple(rows[part] for part in client_rows),
    )


def _share(fraction: float, count: int) -> int:
    return max(1, round(fraction * count))


def _split_public(
    rows: Rows, labels: Array, groups: Array | None, config: DatasetConfig, seed: int
) -> tuple[Rows, Rows]:
    """Validation and training part of the public rows; whole natural ids where there are two."""
    if len(rows) < 2:
        raise UsageError("dataset.public_size: 1 public example; at least 2 are needed")
    if groups is not None and len(np.unique(groups[rows])) < 2:
        groups = None
    size = min(_share(config.validation_fraction, len(rows)), len(rows) - 1)
    return draw(rows, size, labels, groups, generator(seed, "validation"))


def _describe(raw: RawData, public_rows: Rows, config: DatasetConfig) -> Task:
    """The task, with mean and standard deviation per leading dimension of the public inputs."""
    assert raw.scale is not None
    assert raw.class_names is not None
    public = raw.inputs_train[public_rows].astype(np.float64) / raw.scale
    others = tuple(axis for axis in range(public.ndim) if axis != 1)
    mean, std = public.mean(axis=others), public.std(axis=others)
    std[std <= 1e-6 * np.abs(mean) + 1e-12] = 1.0  # constant: only centred
    return Task(
        name=config.name,
        input_shape=tuple(public.shape[1:]),
        class_names=raw.class_names,
        mean=tuple(float(value) for value in mean),
        std=tuple(float(value) for value in std),
        scale=raw.scale,
        metric=config.metric,
        example=config.example,
    )
