"""A simulation: clients that share one process, one data set, and one folder of ledgers.

Its owner is the server's, so here, and only here, the run's options decide policy and budget.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import read_json, write_json
from fedlite.base.options import Options, parse
from fedlite.data.options import DatasetOptions, PartitionOptions
from fedlite.data.splits import Splits, load_splits
from fedlite.data.types import ClientData
from fedlite.federation.device import open_ledger
from fedlite.privacy.ledger import Ledger, sync_ledgers
from fedlite.privacy.options import PrivacyOptions
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.policy import Policy, load_policy, refusal

SIMULATION = "simulation"  # the key of Flower's run config
DIVISION_FILE = "division.json"


@dataclass(frozen=True)
class SimulationOptions(Options):
    """What makes the shared world of simulated clients; never sent to a device.

    ``folder`` holds what the clients keep (the teacher), ``ledger_dir`` their ledgers.
    """

    dataset: DatasetOptions
    partition: PartitionOptions
    privacy: PrivacyOptions
    num_clients: int | None
    seed: int
    folder: str
    ledger_dir: str

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
        return self.policy.for_client(client_id)

    def client_ledger(self, client_id: int, folder: str | None = None) -> Ledger:
        """The ledger of such a client; one in a ``folder`` of its own flushes every charge."""
        directory = Path(folder or self.options.ledger_dir)
        return open_ledger(directory, self.client_policy(client_id), sync=folder is not None)


_invented: dict[str, Simulation] = {}  # by the options that clients are sent


@contextmanager
def invented_world(options: SimulationOptions, splits: Splits) -> Iterator[None]:
    """Let simulated clients of this process hold invented examples (an audit's) instead of a data
    set's; all else of them is as in any simulation.

    Raises:
        UsageError: the policy cannot be read.
    """
    key = options.to_json()
    policy = run_policy(options.privacy, options.dataset.name, splits.num_clients)
    _invented[key] = Simulation(options, splits, policy)
    try:
        yield
    finally:
        del _invented[key]


def open_simulation(options_json: str) -> Simulation:
    """The world of these options in this process, made once.

    Raises:
        UsageError: the data or the policy cannot be read.
    """
    return _invented.get(options_json) or _read_simulation(options_json)


@lru_cache(maxsize=2)
def _read_simulation(options_json: str) -> Simulation:
    options = SimulationOptions.from_json(options_json)
    splits = load_splits(options.dataset, options.partition, options.num_clients, options.seed)
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
    privacy: PrivacyOptions, data_set: str, plan: PrivacyPlan | None, client_sizes: Sequence[int]
) -> None:
    """Refuse a simulation in which no client would train, before anything is trained.

    Raises:
        UsageError: the policy file cannot be used, or every client would refuse every round.
    """
    policy = run_policy(privacy, data_set, len(client_sizes))
    reasons = [refusal(policy, plan, privacy.unit, size) for size in client_sizes]
    if plan is not None and not all(reasons) and plan.epsilon_after(1) > policy.max_epsilon:
        once = plan.epsilon_after(1)
        reasons = [f"one round costs epsilon {once:.3g}, max_epsilon is {policy.max_epsilon:g}"]
    if all(reasons):
        where = f"privacy.policy={privacy.policy}" if privacy.policy else "privacy"
        raise UsageError(f"{where}: every client would refuse this run: {reasons[0]}")


def simulated_ledger(
    directory: Path, privacy: PrivacyOptions, data_set: str, client_id: int
) -> Ledger:
    """The ledger of a simulated client; its data set id is what its policy assigns.

    Raises:
        UsageError: the policy file cannot be used.
    """
    policy = run_policy(privacy, data_set, num_clients=0)
    return open_ledger(directory, policy.for_client(client_id))


def sync_cohort(
    directory: Path, privacy: PrivacyOptions, data_set: str, client_ids: Iterable[int]
) -> None:
    """Flush what simulated clients charged in this round to disk, before its checkpoint.

    Raises:
        LedgerError: the disk cannot be written.
    """
    sync_ledgers(
        simulated_ledger(directory, privacy, data_set, client_id).path for client_id in client_ids
    )


@contextmanager
def hold_ledgers(
    privacy: PrivacyOptions,
    dataset: DatasetOptions,
    partition: PartitionOptions,
    num_clients: int | None,
    seed: int,
) -> Iterator[None]:
    """Keep a shared ledger directory for this run alone, and bind it to its division of the data.

    Does nothing for a run without one. The lock dies with the process.

    Raises:
        UsageError: the directory holds ledgers of another division.
        FedliteError: another run is using it, or it cannot be written.
    """
    if not (privacy.private and privacy.ledger_dir):
        yield
        return
    directory = Path(privacy.ledger_dir).absolute()
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
        claim_ledgers(directory, dataset, partition, num_clients, seed)
        yield
    finally:
        lock.release()


def claim_ledgers(
    directory: Path,
    dataset: DatasetOptions,
    partition: PartitionOptions,
    num_clients: int | None,
    seed: int,
) -> None:
    """Bind a shared ledger directory to one division of the data among simulated clients.

    A simulated client's data set id is its number: under another partition, number of clients or
    seed the same number would hold other examples, and their spending would not be seen.

    Raises:
        UsageError: the directory holds ledgers of another division.
    """
    division = {
        "dataset": dataset.name,
        "public_size": dataset.public_size,
        "public_fraction": dataset.public_fraction,
        "holdout_size": dataset.holdout_size,
        "test_fraction": dataset.test_fraction,
        "partition": dataclasses.asdict(partition),
        "num_clients": num_clients,
        "seed": seed,
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
