"""The ledgers in a directory of a simulation: the clients' in one store, or in files as they were
before, and the server's in a file of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fedlite.base.errors import FedliteError
from fedlite.privacy.charges import Charge
from fedlite.privacy.division import DIVISION_FILE, read_division
from fedlite.privacy.ledger import Ledger
from fedlite.privacy.ledger_file import LedgerFile, data_set_of, sync_ledgers
from fedlite.privacy.ledger_store import LedgerStore

STORE = "clients"  # the ledgers of all clients, as a division names them
STORE_FILE = "clients.ledgers"
SERVER = "server"  # the ledger of client-level releases
SERVER_LEDGER = "server.ledger"


def store_of(directory: Path) -> LedgerStore | None:
    """The store of the clients' ledgers in a directory; None where each has a file of its own.

    Raises:
        FedliteError: the division is damaged.
    """
    division = read_division(directory)
    return LedgerStore(directory / STORE_FILE) if division and division.store else None


def client_ledger(directory: Path, store: LedgerStore | None, data_set: str) -> Ledger:
    """The ledger of a simulated client, whose charges :func:`flush_cohort` flushes."""
    if store is not None:
        return store.ledger(data_set)
    return LedgerFile(directory / f"{data_set}.ledger", data_set, sync=False)


def flush_cohort(directory: Path, data_sets: Sequence[str]) -> None:
    """Flush what these clients charged, before anything that came of it outlives the processes.

    Raises:
        LedgerError: a ledger is missing or damaged, or the disk cannot be written.
    """
    store = store_of(directory)
    if store is not None:
        store.flush()
    else:
        sync_ledgers(directory / f"{data_set}.ledger" for data_set in data_sets)


def any_ledger(directory: Path) -> bool:
    """Whether any ledger lies in a directory, whoever may have begun it."""
    return any(directory.glob("*.ledger")) or (directory / STORE_FILE).exists()


def read_ledgers(
    directory: Path, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, list[Charge]]:
    """All charges of the ledgers whose name is ``wanted``: data set ids, and :data:`SERVER`.

    Raises:
        FedliteError: a ledger that was begun is missing, damaged or of other data.
    """
    present = present_ledgers(directory)
    found = {}
    for name in filter(wanted, sorted(present - {STORE})):
        path = directory / f"{name}.ledger"
        data_set = data_set_of(path) if name == SERVER else name
        found[name] = LedgerFile(path, data_set).entries()
    if STORE in present:
        held = LedgerStore(directory / STORE_FILE).entries()
        found |= {name: charges for name, charges in sorted(held.items()) if wanted(name)}
    return found


def present_ledgers(directory: Path) -> set[str]:
    """The names of the ledgers in a directory: its files' and :data:`STORE`.

    Raises:
        FedliteError: one that was begun is missing, or a client's may lie in two places; or the
            division is damaged.
    """
    division, store = read_division(directory), directory / STORE_FILE
    files = {path.stem for path in directory.glob("*.ledger")}
    if store.exists() and not (division and division.store):
        raise FedliteError(
            f"ledger {store}: is not that of this directory, by its {DIVISION_FILE}; restore that,"
            " or move the store away"
        )
    if division is None:
        return files
    if division.store and (strays := files & set(division.examples)):
        raise FedliteError(
            f"ledger {directory / min(strays)}.ledger: lies beside {STORE_FILE}, which holds this"
            " client's charges; move it away"
        )
    present = files | ({STORE} if store.exists() else set())
    if missing := set(division.begun) - present:
        name = min(missing)
        raise FedliteError(
            f"ledger {directory / (STORE_FILE if name == STORE else f'{name}.ledger')}: is missing"
            f" ({len(missing)} of {len(division.begun)}); restore it, nothing is trained or"
            " reported without it"
        )
    return present
