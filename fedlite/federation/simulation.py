"""A simulation: clients that share one process, one data set, and one folder of ledgers.

Its owner is the server's, so here, and only here, the run's options decide policy and budget. A
node opens such a world only if its own node config says that it is simulated.
"""

import dataclasses
import json
import math
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

from fedlite.base.errors import UsageError
from fedlite.base.options import Options, parse
from fedlite.data.options import DatasetOptions, PartitionOptions
from fedlite.data.splits import Splits, load_splits
from fedlite.data.types import ClientData
from fedlite.federation.device import open_ledger
from fedlite.privacy.ledger import Ledger
from fedlite.privacy.ledger_folder import client_ledger, store_of
from fedlite.privacy.ledger_store import LedgerStore
from fedlite.privacy.options import PrivacyOptions
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.policy import Policy, load_policy, refusal

SIMULATION = "simulation"  # the key of Flower's run config
SHARED_MEMORY = Path("/dev/shm")  # on Linux; small in some containers


@dataclass(frozen=True)
class SimulationOptions(Options):
    """What makes the shared world of simulated clients; never sent to a device.

    ``folder`` holds what the clients keep (the teacher), ``ledger_dir`` their ledgers. ``members``
    are the clients of the run by their numbers among all; empty where they are all.
    """

    dataset: DatasetOptions
    partition: PartitionOptions
    privacy: PrivacyOptions
    num_clients: int | None
    seed: int
    folder: str
    ledger_dir: str
    members: tuple[int, ...] = ()

    def to_json(self) -> str:
        """As one value of Flower's run config; :meth:`from_json` is the inverse."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild what :meth:`to_json` wrote."""
        return parse(cls, json.loads(text))


@dataclass
class Simulation:
    """The world that simulated clients share.

    ``policy`` is for those that have none of their own; each client adds its number to the data
    set id.
    """

    options: SimulationOptions
    splits: Splits
    policy: Policy
    _data: dict[int, ClientData] = field(default_factory=dict)

    def client_data(self, client_id: int) -> ClientData:
        """The client's private examples, prepared once."""
        if client_id not in self._data:
            self._data[client_id] = self.splits.client(client_id)
        return self._data[client_id]

    def client_policy(self, client_id: int) -> Policy:
        """The rules of a client without rules of its own."""
        return self.policy.for_client(self.splits.all_numbers[client_id])

    def client_ledger(self, client_id: int, folder: str | None = None) -> Ledger:
        """The ledger of such a client: one of the run's, or a file in a ``folder`` of its own."""
        policy = self.client_policy(client_id)
        if folder is not None:
            return open_ledger(Path(folder), policy)
        return client_ledger(Path(self.options.ledger_dir), self._store, policy.data_set)

    @cached_property
    def _store(self) -> LedgerStore | None:
        """Of the run's ledgers, which are begun when a client charges."""
        return store_of(Path(self.options.ledger_dir))


_shared: dict[str, Simulation] = {}  # by the options that clients are sent

World = tuple[SimulationOptions, Splits]


@contextmanager
def shared_world(options: SimulationOptions, splits: Splits) -> Iterator[None]:
    """Let simulated clients of this process hold what ``splits`` gives them: examples that their
    run has read already, or that an audit invented. All else of them is as in any simulation.

    Raises:
        UsageError: the policy cannot be read.
    """
    key = options.to_json()
    _shared[key] = _world(options, splits)
    try:
        yield
    finally:
        del _shared[key]


def shared_worlds() -> list[World]:
    """What clients of this process share by :func:`shared_world`, for those of its workers.

    Sent to a process by torch's or Python's own means, the examples lie in shared memory: once for
    all, and nobody reads them again. None of those that would not fit there.
    """
    room = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else math.inf
    found = [(one.options, one.splits.private_part()) for one in _shared.values()]
    return [(options, splits) for options, splits in found if 2 * splits.nbytes < room]


def join_worlds(worlds: Iterable[World]) -> None:
    """Share, for as long as this process lives, what :func:`shared_worlds` gave in another."""
    for options, splits in worlds:
        _shared[options.to_json()] = _world(options, splits)


def open_simulation(options_json: str) -> Simulation:
    """The world of these options in this process, made once.

    Raises:
        UsageError: the data or the policy cannot be read.
    """
    return _shared.get(options_json) or _read_simulation(options_json)


@lru_cache(maxsize=2)
def _read_simulation(options_json: str) -> Simulation:
    options = SimulationOptions.from_json(options_json)
    splits = load_splits(options.dataset, options.partition, options.num_clients, options.seed)
    return _world(options, splits.of_clients(options.members) if options.members else splits)


def _world(options: SimulationOptions, splits: Splits) -> Simulation:
    policy = run_policy(options.privacy, options.dataset.name, splits.num_clients)
    return Simulation(options, splits, policy)


def run_policy(privacy: PrivacyOptions, data_set: str, num_clients: int) -> Policy:
    """The rules of clients that have none of their own: ``privacy.policy``, else the options.

    Raises:
        UsageError: the file cannot be used.
    """
    if privacy.policy:
        return _read_once(str(Path(privacy.policy).absolute()))
    return Policy(
        data_set=data_set,
        max_epsilon=math.inf if privacy.epsilon is None else privacy.epsilon,
        max_delta=privacy.delta,
        units=(privacy.unit,),
        trust=(privacy.trust,),
        min_cohort=num_clients,
        min_colluders=privacy.aggregate.colluders,
        randomness=privacy.randomness,
    )


@lru_cache(maxsize=4)
def _read_once(path: str) -> Policy:
    return load_policy(Path(path))


def check_policy(
    privacy: PrivacyOptions, data_set: str, plan: PrivacyPlan | None, num_clients: int
) -> None:
    """Refuse a simulation in which no client would train, before anything is trained.

    Raises:
        UsageError: the policy file cannot be used, or every client would refuse every round.
    """
    policy = run_policy(privacy, data_set, num_clients)
    reason = refusal(policy, plan, privacy.unit)
    if plan is not None and not reason and plan.epsilon_after(1) > policy.max_epsilon:
        once = plan.epsilon_after(1)
        reason = f"one round costs epsilon {once:.3g}, max_epsilon is {policy.max_epsilon:g}"
    if reason:
        where = f"privacy.policy={privacy.policy}" if privacy.policy else "privacy"
        raise UsageError(f"{where}: every client would refuse this run: {reason}")
