"""What a client owns on its device: its data, its ledger, the teacher it received.

In a simulation many clients share one process and one ``nodes/`` folder; the teacher is stored
there once by its hash, and every client still receives (and is counted for) its own message.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import Context
from torch import Tensor, nn

from fedlite.config import Config
from fedlite.config_checks import config_from_json
from fedlite.data import ClientData, Splits, load_splits
from fedlite.distill.evaluate import predict_logits
from fedlite.distill.losses import Loss, build_loss
from fedlite.errors import FedliteError, UsageError
from fedlite.federation.messages import State
from fedlite.files import load_tensors, read_json, save_tensors, state_sha256, write_json
from fedlite.models.build import build_model, load_state
from fedlite.privacy import Ledger, check_private_model, check_row_separable_loss

RUN_CONFIG, NODES_DIR, LEDGER_DIR = "config", "nodes-dir", "ledger-dir"
DIVISION_FILE = "division.json"
PARTITION_ID = "partition-id"  # Flower's name


@dataclass
class World:
    """What the clients of one process share: configuration, data source, networks, the teacher."""

    config: Config
    nodes_dir: Path
    splits: Splits
    student: nn.Module
    loss: Loss
    _teachers: dict[str, nn.Module] = field(default_factory=dict)
    _logits: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    _data: dict[int, ClientData] = field(default_factory=dict)

    def client_data(self, client_id: int) -> ClientData:
        """The client's private examples, normalised once."""
        if client_id not in self._data:
            self._data[client_id] = self.splits.client(client_id)
        return self._data[client_id]

    def has_teacher(self, sha256: str) -> bool:
        """Whether the teacher of this hash has been received."""
        return self._teacher_path(sha256).is_file()

    def store_teacher(self, state: State, sha256: str) -> None:
        """Keep a received teacher.

        Raises:
            FedliteError: its content does not have the announced hash.
        """
        if state_sha256(state) != sha256:
            raise FedliteError("teacher: the received arrays do not have the announced hash")
        if not self.has_teacher(sha256):
            save_tensors(self._teacher_path(sha256), state)

    def teacher_logits(self, client_id: int, sha256: str) -> Tensor:
        """The teacher's logits (n, classes) on the client's data, computed once per process."""
        key = (sha256, client_id)
        if key not in self._logits:
            teacher = self._teacher(sha256)
            self._logits[key] = predict_logits(teacher, self.client_data(client_id).inputs)
        return self._logits[key]

    def _teacher(self, sha256: str) -> nn.Module:
        if sha256 not in self._teachers:
            state: Mapping[str, Tensor] = load_tensors(self._teacher_path(sha256))
            task = self.splits.task
            teacher = build_model(self.config.teacher, task.input_shape, task.num_classes, seed=0)
            load_state(teacher, state, where="teacher received")
            if state_sha256(teacher.state_dict()) != sha256:
                raise FedliteError("teacher: the stored copy does not have its hash")
            teacher.eval().requires_grad_(requires_grad=False)
            self._teachers[sha256] = teacher
        return self._teachers[sha256]

    def _teacher_path(self, sha256: str) -> Path:
        return self.nodes_dir / f"teacher-{sha256}.pt"


@dataclass(frozen=True)
class Node:
    """One client: its identity, its ledger and the world it shares."""

    client_id: int
    ledger: Ledger
    world: World

    @classmethod
    def of(cls, context: Context) -> "Node":
        """The client that a Flower context belongs to.

        A device names its ledger directory in its node config; a simulation names one in the run
        config. Budget, delta and randomness come from the run config: that is right for a
        simulation, where one person is server and clients, and not yet for a device.
        """
        run_config: Mapping[str, Any] = context.run_config
        client_id = int(context.node_config[PARTITION_ID])
        world = _world(str(run_config[RUN_CONFIG]), str(run_config[NODES_DIR]))
        directory = context.node_config.get(LEDGER_DIR, run_config[LEDGER_DIR])
        return cls(client_id, open_ledger(Path(str(directory)), world.config, client_id), world)


def open_ledger(directory: Path, config: Config, client_id: int) -> Ledger:
    """The ledger of a simulated client; its data set id is what a device's policy would assign."""
    data_set = f"{config.dataset.name}-client-{client_id:04d}"
    return Ledger(directory / f"{data_set}.ledger", data_set)


def claim_ledgers(directory: Path, config: Config) -> None:
    """Bind a shared ledger directory to one division of the data among simulated clients.

    A simulated client's data set id is its number: under another partition, number of clients or
    seed the same number would hold other examples, and their spending would not be seen.

    Raises:
        UsageError: the directory holds ledgers of another division.
    """
    division = {
        "dataset": config.dataset.name,
        "public_size": config.dataset.public_size,
        "public_fraction": config.dataset.public_fraction,
        "holdout_size": config.dataset.holdout_size,
        "partition": dataclasses.asdict(config.partition),
        "num_clients": config.federation.num_clients,
        "seed": config.seed,
    }
    path = directory / DIVISION_FILE
    if path.exists() and read_json(path) != division:
        raise UsageError(
            f"privacy.ledger_dir={directory}: its ledgers belong to another data set, partition,"
            " number of clients or seed, so their clients hold other examples; use another"
            " directory"
        )
    try:
        write_json(path, division)
    except FedliteError as error:
        raise FedliteError(f"privacy.ledger_dir: {error}; nothing was trained") from error


@lru_cache(maxsize=2)
def _world(config_json: str, nodes_dir: str) -> World:
    config = config_from_json(config_json)
    splits = load_splits(
        config.dataset, config.partition, config.federation.num_clients, config.seed
    )
    task = splits.task
    student = build_model(config.student, task.input_shape, task.num_classes, seed=config.seed)
    loss = build_loss(config.distill)
    if config.private:
        check_private_model(student, task.input_shape)
        check_row_separable_loss(loss)
    return World(config, Path(nodes_dir), splits, student, loss)
