"""The ledgers of a simulation: bound to who holds what, begun once, held by one run at a time."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import read_json
from fedlite.data.splits import Splits
from fedlite.federation.server_app import open_server_ledger
from fedlite.federation.simulation import SimulationOptions, run_policy
from fedlite.privacy.division import DIVISION_FILE, Division, read_division
from fedlite.privacy.ledger_file import LedgerFile, create_ledgers
from fedlite.privacy.ledger_folder import (
    SERVER,
    STORE,
    STORE_FILE,
    any_ledger,
    flush_cohort,
    present_ledgers,
)
from fedlite.privacy.ledger_store import LedgerStore
from fedlite.privacy.options import PrivacyOptions

log = logging.getLogger(__name__)


def data_set_ids(privacy: PrivacyOptions, data_set: str, numbers: Iterable[int]) -> list[str]:
    """What the policy of simulated clients calls the examples of each, by its number among all.

    Raises:
        UsageError: the policy file cannot be used.
    """
    policy = run_policy(privacy, data_set, num_clients=0)
    return [policy.for_client(number).data_set for number in numbers]


def sync_cohort(
    directory: Path, privacy: PrivacyOptions, data_set: str, numbers: Iterable[int]
) -> None:
    """Flush what simulated clients charged in this round to disk, before its checkpoint.

    Does nothing where clients charge no ledgers.

    Raises:
        LedgerError: a ledger is missing or damaged, or the disk cannot be written.
    """
    if privacy.example_level:
        flush_cohort(directory, data_set_ids(privacy, data_set, numbers))


def divide(splits: Splits, privacy: PrivacyOptions, data_set: str) -> Division:
    """Which examples each simulated client holds, by its data set id.

    Raises:
        UsageError: the policy file cannot be used.
    """
    ids = data_set_ids(privacy, data_set, splits.all_numbers)
    return Division({named: splits.client_sha256(i) for i, named in enumerate(ids)})


@contextmanager
def hold_ledgers(
    options: SimulationOptions, division: Division, *, unbound: bool = False
) -> Iterator[None]:
    """Keep the ledgers of a simulation for this run alone, bound to its division and begun.

    Does nothing for a run without privacy. The lock is of a shared directory and dies with the
    process; ledgers are charged under locks of their own, whatever becomes of this one.

    Args:
        options: of the simulated world.
        division: who holds what in it.
        unbound: the run began before its ledgers were bound to a division; they are now.

    Raises:
        UsageError: the directory holds ledgers of another division.
        FedliteError: another run is using it, a ledger is missing, or it cannot be written.
    """
    if not options.privacy.private:
        yield
        return
    directory = Path(options.ledger_dir).absolute()
    named = f"privacy.ledger_dir={directory}" if options.privacy.ledger_dir else f"{directory}"
    lock = FileLock(directory / ".lock")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FedliteError(
            f"{named}: another run is charging these ledgers; wait for its end, nothing was trained"
        ) from error
    except OSError as error:
        raise FedliteError(
            f"{named}: cannot be written ({error.strerror or error}); nothing was trained"
        ) from error
    try:
        try:
            bound = _bound(directory, named, options, division, unbound=unbound)
            _begin(directory, options, bound)
        except UsageError:
            raise
        except FedliteError as error:
            raise FedliteError(f"{error}; nothing was trained") from error
        yield
    finally:
        lock.release()


def _bound(
    directory: Path, named: str, options: SimulationOptions, division: Division, *, unbound: bool
) -> Division:
    """The division that the directory is bound to from now on, if it was to none before.

    A division that differs in anything is refused, new examples of a client or another number of
    clients too: who holds what is drawn anew then, and ledgers would not follow the examples.

    Raises:
        UsageError: it is bound to another, or holds ledgers and nothing that says whose.
    """
    found = read_division(directory)
    if found is not None:
        if found.examples != division.examples:
            known = found.examples
            if not known.keys() & division.examples.keys():
                raise UsageError(
                    f"{named}: its ledgers are those of {min(known, default='nobody')} and others,"
                    f" not of {min(division.examples, default='nobody')}: the data set ids differ;"
                    " use the dataset.name and policy that they were begun under, or another"
                    " directory"
                )
            other = sum(known.get(name) != held for name, held in division.examples.items())
            raise UsageError(
                f"{named}: its ledgers belong to other examples: {other} of"
                f" {len(division.examples)} clients of this run would not hold what"
                f" {len(known)} ledgers were begun for (other files, partition, number of clients"
                " or seed); use another directory"
            )
        return found
    old = any_ledger(directory)
    if old:
        claimed = directory / DIVISION_FILE
        if claimed.exists() and not _same_options(read_json(claimed), options):
            raise UsageError(
                f"{named}: its ledgers belong to another data set, partition, number of clients or"
                " seed, so their clients hold other examples; use another directory"
            )
        if not (claimed.exists() or unbound):
            raise UsageError(
                f"{named}: holds ledgers, and no {DIVISION_FILE} that says whose examples they are"
                " of; restore it, or use another directory"
            )
        log.warning(
            "%s: its ledgers were bound to the names of options; from now on they are bound to the"
            " examples that each client holds in this run",
            named,
        )
    division = dataclasses.replace(division, store=not old)
    division.write(directory)
    return division


def _same_options(claimed: dict[str, Any], options: SimulationOptions) -> bool:
    """Whether a division of before, which names options, is that of ``options``."""
    dataset = options.dataset
    division = {
        "dataset": dataset.name,
        "public_size": dataset.public_size,
        "public_fraction": dataset.public_fraction,
        "holdout_size": dataset.holdout_size,
        "test_fraction": dataset.test_fraction,
        "partition": dataclasses.asdict(options.partition),
        "num_clients": options.num_clients,
        "seed": options.seed,
    }
    return all(division.get(key) == value for key, value in claimed.items())


def _begin(directory: Path, options: SimulationOptions, division: Division) -> None:
    """Begin the ledgers that this unit of privacy charges and that were not begun before.

    Raises:
        FedliteError: one that was begun is missing, or the disk cannot be written.
    """
    present, store = present_ledgers(directory), LedgerStore(directory / STORE_FILE)
    if STORE in present:
        store.flush()  # what a killed run has charged; and its damage is seen before any training
    charged = set()
    if options.privacy.example_level:
        charged |= {STORE} if division.store else set(division.examples)
    if options.privacy.client_level:
        charged.add(SERVER)
    if charged <= set(division.begun):
        return
    new = charged - present
    if STORE in new:
        store.begin(division.examples)
    server = open_server_ledger(directory, options.dataset.name)
    create_ledgers(
        server if name == SERVER else LedgerFile(directory / f"{name}.ledger", name)
        for name in sorted(new - {STORE})
    )
    begun = tuple(sorted(charged | set(division.begun)))
    dataclasses.replace(division, begun=begun).write(directory)
