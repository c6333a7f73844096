"""The split of a data set into public, private (by client), held-out and test parts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlite.base.errors import UsageError
from fedlite.data.draws import Rows, draw, generator
from fedlite.data.options import DatasetOptions, PartitionOptions
from fedlite.data.partition import partition_of, partition_rows
from fedlite.data.raw import Array, RawData, read_raw
from fedlite.data.standardise import constants_of
from fedlite.data.tokens import tokenized
from fedlite.data.types import ClientData, Normalise, Preprocessing, PublicData, Task, TestData

_Part = TypeVar("_Part", PublicData, TestData)


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set, split once. No example is in two parts.

    ``public`` is the training part of the public data and ``public_validation`` the rest of it;
    ``test`` is the test part, or the held-out training examples (``evaluate_on=holdout``).
    Private examples stay in their raw type and are normalised one client at a time. ``notes`` are
    lines on what of the data a user may not have meant. ``numbers`` are those of the clients among
    all of the data set's, where they are a part of them (:meth:`of_clients`); None where all are.
    """

    task: Task
    public: PublicData
    public_validation: PublicData
    test: TestData
    _inputs: Tensor = field(repr=False)
    _labels: Tensor = field(repr=False)
    _rows: tuple[Rows, ...] = field(repr=False)
    notes: tuple[str, ...] = ()
    numbers: tuple[int, ...] | None = None

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
        return ClientData(client_id, self.task.prepare(self._inputs[rows]), self._labels[rows])

    @property
    def all_numbers(self) -> Sequence[int]:
        """The number of every client among all of the data set's."""
        return range(self.num_clients) if self.numbers is None else self.numbers

    def of_clients(self, numbers: Sequence[int]) -> "Splits":
        """The same data with these clients alone, who are 0, 1, ... in it."""
        rows = tuple(self._rows[number] for number in numbers)
        return replace(self, _rows=rows, numbers=tuple(self.all_numbers[i] for i in numbers))

    def private_part(self) -> "Splits":
        """The same clients beside no other examples: all that a process needs in which they train,
        and on a large data set far less than the whole of what is prepared."""

        def none_of(data: _Part) -> _Part:
            return replace(data, inputs=data.inputs[:0].clone(), labels=data.labels[:0].clone())

        return replace(
            self,
            public=none_of(self.public),
            public_validation=none_of(self.public_validation),
            test=none_of(self.test),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the examples that clients are made of."""
        return self._inputs.nbytes + self._labels.nbytes

    def client_sha256(self, client_id: int) -> str:
        """A digest of the examples that a client holds, as the source has them, with their labels.

        Not private: it tells who guesses them all that the guess is right.
        """
        rows = torch.from_numpy(self._rows[client_id])
        inputs, labels = self._inputs[rows].numpy(), self._labels[rows].numpy()
        digest = hashlib.sha256(f"{inputs.dtype.str} {inputs.shape}".encode())
        digest.update(inputs.tobytes())
        digest.update(labels.tobytes())
        return digest.hexdigest()

    def class_counts(self) -> NDArray[np.int64]:
        """Examples per client and class (clients, classes); only a simulation may look."""
        labels, classes = self._labels.numpy(), self.task.num_classes
        return np.stack([np.bincount(labels[rows], minlength=classes) for rows in self._rows])

    def client_sizes(self) -> list[int]:
        """Examples per client; only a simulation may look."""
        return [len(rows) for rows in self._rows]


def load_splits(
    config: DatasetOptions, partition: PartitionOptions, num_clients: int | None, seed: int
) -> Splits:
    """Read a data set and split it; the same arguments always give the same split.

    In this order: a test part (where the source has none), ``holdout_size`` training examples,
    the public part (``public_size``, or ``public_fraction`` of what is left), and the rest to the
    clients. Draws are stratified by class; with ``partition=natural`` they are of whole natural
    ids, until the size is reached. Normalisation comes from the public training part alone.

    Raises:
        UsageError: the data cannot be read, or the sizes asked for do not fit.
    """
    raw = read_raw(config)
    natural = partition_of(partition).whole_groups
    parts = _draw_parts(raw, config, natural, num_clients, seed)
    client_rows = partition_rows(
        raw.labels_train[parts.private],
        None if raw.groups is None else raw.groups[parts.private],
        partition,
        num_clients,
        int(generator(seed, "partition").integers(2**31)),
    )
    preprocessing: Preprocessing
    if raw.text:
        raw, preprocessing = tokenized(raw, parts.public, parts.validation, config.text)
    else:
        preprocessing = _normalise(raw, parts.public, config)
    task = _describe(raw, preprocessing, config)

    def tensors(inputs: Array, labels: Array) -> tuple[Tensor, Tensor]:
        return task.prepare(torch.from_numpy(inputs)), torch.from_numpy(labels)

    def training(rows: Rows) -> tuple[Tensor, Tensor]:
        return tensors(raw.inputs_train[rows], raw.labels_train[rows])

    if config.evaluate_on == "holdout":
        test = TestData(*training(parts.holdout))
    elif raw.inputs_test is not None and raw.labels_test is not None:
        test = TestData(*tensors(raw.inputs_test, raw.labels_test))
    else:
        test = TestData(*training(parts.test))
    return Splits(
        task=task,
        public=PublicData(*training(parts.public)),
        public_validation=PublicData(*training(parts.validation)),
        test=test,
        _inputs=torch.from_numpy(raw.inputs_train),
        _labels=torch.from_numpy(raw.labels_train),
        _rows=tuple(parts.private[positions] for positions in client_rows),
        notes=raw.notes,
    )


@dataclass(frozen=True)
class _Parts:
    """Disjoint rows of the training part of a source."""

    test: Rows
    holdout: Rows
    public: Rows
    validation: Rows
    private: Rows


def _draw_parts(
    raw: RawData, config: DatasetOptions, natural: bool, num_clients: int | None, seed: int
) -> _Parts:
    groups = raw.groups if natural else None

    def take(pool: Rows, size: int, purpose: str, key: str, clients: int = 1) -> tuple[Rows, Rows]:
        if size + clients > len(pool):
            raise UsageError(
                f"{key}: {size} of {len(pool)} training examples leave too few for {clients}"
                f" client(s); lower {key} or federation.num_clients"
            )
        taken, rest = draw(pool, size, raw.labels_train, groups, generator(seed, purpose))
        if len(taken) < size:
            raise UsageError(
                f"{key}: {size} of {len(pool)} training examples, drawn as whole natural ids, leave"
                f" no private client; lower {key}"
            )
        return taken, rest

    rows: Rows = np.arange(len(raw.labels_train))
    test = holdout = rows[:0]
    if raw.inputs_test is None:
        size = _share(config.test_fraction, len(rows))
        test, rows = take(rows, size, "test", "dataset.test_fraction")
    if config.holdout_size:
        holdout, rows = take(rows, config.holdout_size, "holdout", "dataset.holdout_size")
    size = config.public_size or _share(config.public_fraction, len(rows))
    clients = 1 if natural or num_clients is None else num_clients
    public, private = take(rows, size, "public", "dataset.public_size", clients)
    if len(public) < 2:
        raise UsageError("dataset.public_size: 1 public example; at least 2 are needed")
    if groups is not None and len(np.unique(groups[public])) < 2:
        groups = None  # one public person cannot be divided by person
    size = min(_share(config.validation_fraction, len(public)), len(public) - 1)
    validation, public = draw(public, size, raw.labels_train, groups, generator(seed, "validation"))
    return _Parts(test, holdout, public, validation, private)


def _share(fraction: float, count: int) -> int:
    return max(1, round(fraction * count))


def _normalise(raw: RawData, public_rows: Rows, config: DatasetOptions) -> Normalise:
    """The constants of ``dataset.standardise`` from the public inputs."""
    assert raw.scale is not None
    public = raw.inputs_train[public_rows].astype(np.float64) / raw.scale
    mean, std = constants_of(public, config.standardise)
    return Normalise(
        scale=raw.scale,
        mean=tuple(float(value) for value in mean),
        std=tuple(float(value) for value in std),
    )


def _describe(raw: RawData, preprocessing: Preprocessing, config: DatasetOptions) -> Task:
    assert raw.class_names is not None
    return Task(
        name=config.name,
        input_shape=tuple(raw.inputs_train.shape[1:]),
        class_names=raw.class_names,
        preprocessing=preprocessing,
        metric=config.metric,
        example=config.example,
        columns=raw.columns or (),
        sound=raw.sound,
    )
