"""What a client owns on its device: its data, its policy, its ledger, the teacher it received.

In a simulation many clients share one process and one ``nodes/`` folder; the teacher is stored
there once by its hash, and every client still receives (and is counted for) its own message.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
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
from fedlite.models.build import FixedFrontEnd, build_model, frozen_names, load_state
from fedlite.privacy import (
    Ledger,
    Policy,
    PrivacyPlan,
    check_private_model,
    check_row_separable_loss,
    load_policy,
    refusal,
)
from fedlite.privacy.ledger import sync_ledgers

RUN_CONFIG, NODES_DIR, LEDGER_DIR, POLICY = "config", "nodes-dir", "ledger-dir", "policy"
DIVISION_FILE = "division.json"
FEATURE_BATCH = 256  # examples at a time through a fixed front end
PARTITION_ID = "partition-id"  # Flower's name


@dataclass
class World:
    """What the clients of one process share: configuration, data source, networks, the teacher.

    ``policy`` is for those that have none of their own; each client adds its number to the data
    set id.
    """

    config: Config
    policy: Policy
    nodes_dir: Path
    splits: Splits
    student: nn.Module
    loss: Loss
    _teachers: dict[str, nn.Module] = field(default_factory=dict)
    _logits: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    _features: dict[tuple[str, int], Tensor] = field(default_factory=dict)
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

    def trained_part(self, client_id: int) -> tuple[nn.Module, Tensor]:
        """The module that training moves, and its inputs on the client's data.

        That is the student and the examples themselves, or the head of a student with a fixed
        front end and its features, which are computed once per process (and anew if the server
        sends another front end).
        """
        data, student = self.client_data(client_id), self.student
        if not isinstance(student, FixedFrontEnd):
            return student, data.inputs
        fixed = {name: student.state_dict()[name] for name in sorted(frozen_names(student))}
        key = (state_sha256(fixed), client_id)
        if key not in self._features:
            student.eval()
            with torch.no_grad():
                parts = map(student.features, torch.split(data.inputs, FEATURE_BATCH))
            self._features[key] = torch.cat(list(parts))
        return student.head, self._features[key]

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
    """One client: its identity, its rules, its ledger and the world it shares."""

    client_id: int
    policy: Policy
    ledger: Ledger
    world: World

    @classmethod
    def of(cls, context: Context) -> "Node":
        """The client that a Flower context belongs to.

        A device names its policy in its node config, which no server can set. The file is read for
        every message, so that an owner's change holds at once; ``ledger-dir`` beside it says where
        the ledger lies, counted from the policy's folder, which is also the default: never from
        where the process was started, for elsewhere the budget would begin anew. A client without
        one (every simulated client, whose owner is the server's) follows the run.

        Raises:
            UsageError: the policy or the run's configuration cannot be used.
        """
        run_config: Mapping[str, Any] = context.run_config
        client_id = int(context.node_config[PARTITION_ID])
        world = _world(
            str(run_config[RUN_CONFIG]), str(run_config[NODES_DIR]), str(run_config.get(POLICY, ""))
        )
        if POLICY in context.node_config:
            path = Path(str(context.node_config[POLICY])).absolute()
            policy = load_policy(path)
            directory = path.parent / str(context.node_config.get(LEDGER_DIR, ""))
        else:
            policy = world.policy.for_client(client_id)
            directory = Path(str(context.node_config.get(LEDGER_DIR, run_config[LEDGER_DIR])))
        own = POLICY in context.node_config or LEDGER_DIR in context.node_config
        return cls(client_id, policy, _ledger(directory, policy, sync=own), world)


def run_policy(config: Config, num_clients: int, path: str | None) -> Policy:
    """The rules of clients that have none of their own: the file ``path``, else the run's options.

    Raises:
        UsageError: the file cannot be used.
    """
    if path:
        return _read_once(path)
    privacy = config.privacy
    return Policy(
        data_set=config.dataset.name,
        max_epsilon=math.inf if privacy.epsilon is None else privacy.epsilon,
        max_delta=privacy.delta,
        units=(privacy.unit,),
        trust=(privacy.trust,),
        min_cohort=num_clients,
        min_colluders=privacy.aggregate.colluders,
        randomness=privacy.randomness,
    )


def check_policy(config: Config, plan: PrivacyPlan | None, client_sizes: Sequence[int]) -> None:
    """Refuse a simulation in which no client would train, before anything is trained.

    Raises:
        UsageError: the policy file cannot be used, or every client would refuse every round.
    """
    policy = run_policy(config, len(client_sizes), config.privacy.policy)
    reasons = [refusal(policy, plan, config.privacy.unit, size) for size in client_sizes]
    if plan is not None and not all(reasons) and plan.epsilon_after(1) > policy.max_epsilon:
        once = plan.epsilon_after(1)
        reasons = [f"one round costs epsilon {once:.3g}, max_epsilon is {policy.max_epsilon:g}"]
    if all(reasons):
        where = f"privacy.policy={config.privacy.policy}" if config.privacy.policy else "privacy"
        raise UsageError(f"{where}: every client would refuse this run: {reasons[0]}")


def open_ledger(directory: Path, config: Config, client_id: int) -> Ledger:
    """The ledger of a simulated client; its data set id is what its policy assigns.

    Raises:
        UsageError: the policy file cannot be used.
    """
    policy = run_policy(config, num_clients=0, path=config.privacy.policy)
    return _ledger(directory, policy.for_client(client_id))


def _ledger(directory: Path, policy: Policy, *, sync: bool = True) -> Ledger:
    """``sync`` False: a simulated client, whose charges the server's machine flushes by cohort."""
    return Ledger(directory / f"{policy.data_set}.ledger", policy.data_set, sync=sync)


@lru_cache(maxsize=4)
def _read_once(path: str) -> Policy:
    return load_policy(Path(path))


@contextmanager
def hold_ledgers(config: Config) -> Iterator[None]:
    """Keep a shared ledger directory for this run alone, and bind it to its division of the data.

    Does nothing for a run without one. The lock dies with the process.

    Raises:
        UsageError: the directory holds ledgers of another division.
        FedliteError: another run is using it, or it cannot be written.
    """
    if not (config.private and config.privacy.ledger_dir):
        yield
        return
    directory = Path(config.privacy.ledger_dir).absolute()
    lock = FileLock(directory / ".lock")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FedliteError(
            f"privacy.ledger_dir={directory}: another run is charging these ledgers; wait for its"
            " end, nothing was trained"
        ) from error
    except OSError as error:
        raise FedliteError(
            f"privacy.ledger_dir={directory}: cannot be written ({error.strerror or error});"
            " nothing was trained"
        ) from error
    try:
        claim_ledgers(directory, config)
        yield
    finally:
        lock.release()


def sync_cohort(directory: Path, config: Config, client_ids: Iterable[int]) -> None:
    """Flush what simulated clients charged in this round to disk, before its checkpoint.

    Raises:
        LedgerError: the disk cannot be written.
    """
    sync_ledgers(open_ledger(directory, config, client_id).path for client_id in client_ids)


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
        "test_fraction": config.dataset.test_fraction,
        "partition": dataclasses.asdict(config.partition),
        "num_clients": config.federation.num_clients,
        "seed": config.seed,
    }
    path = directory / DIVISION_FILE
    claimed = read_json(path) if path.exists() and any(directory.glob("*.ledger")) else {}
    if any(division.get(key) != value for key, value in claimed.items()):
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
def _world(config_json: str, nodes_dir: str, policy_path: str) -> World:
    config = config_from_json(config_json)
    splits = load_splits(
        config.dataset, config.partition, config.federation.num_clients, config.seed
    )
    task = splits.task
    student = build_model(config.student, task.input_shape, task.num_classes, seed=config.seed)
    loss = build_loss(config.distill)
    if config.private:
        check_private_model(student, task.input_shape)
    if config.example_level:
        check_row_separable_loss(loss)
    policy = run_policy(config, splits.num_clients, policy_path)
    return World(config, policy, Path(nodes_dir), splits, student, loss)
