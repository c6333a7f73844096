"""Both places where a ledger's lines are kept, so that the tests of rule 1 run over each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fedlite.privacy import ledger_file, ledger_store
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import Ledger, Spending
from fedlite.privacy.ledger_file import LedgerFile, create_ledgers, sync_ledgers
from fedlite.privacy.ledger_store import LedgerStore, StoredLedger

BUDGET = {"budget": 8.0, "delta": 1e-5, "accountant": "rdp"}
NO_LIMIT = {**BUDGET, "budget": 1e9}
OTHERS = ("v", "w", "y")  # whose ledgers a store holds beside that of "x"


def charge(server_round: int, run: str = "a", noise_multiplier: float = 2.0) -> Charge:
    return Charge(run, server_round, noise_multiplier, sample_rate=0.1, steps=5)


@contextmanager
def another_process() -> Iterator[None]:
    """Inside, this process remembers nothing of any ledger."""
    memories: tuple[dict[Any, Any], ...] = (ledger_file._verified, ledger_store._verified)
    kept = [dict(memory) for memory in memories]
    for memory in memories:
        memory.clear()
    try:
        yield
    finally:
        for memory, before in zip(memories, kept, strict=True):
            memory.clear()
            memory.update(before)


class Kind(ABC):
    """One place of lines: what can be done with it in the same words as with the other.

    ``module`` is where it is written, ``reader`` the class whose ``checks`` see what became of the
    file since.
    """

    module: ModuleType
    reader: type
    checks: str

    @abstractmethod
    def at(self, path: Path, data_set: str = "x", *, sync: bool = True) -> Ledger:
        """The ledger there; ``sync`` flushes every charge, as if each were a whole cohort."""

    @abstractmethod
    def begin(self, path: Path, data_set: str = "x") -> None:
        """What its owner does once."""

    @abstractmethod
    def flush(self, path: Path) -> None:
        """What a simulation does after each cohort."""

    @abstractmethod
    def notices(self, path: Path) -> tuple[Callable[[], object], ...]:
        """All that sees a changed byte, wherever it is."""

    def begun(self, path: Path, data_set: str = "x", *, sync: bool = True) -> Ledger:
        """A new ledger, as its owner begins it."""
        self.begin(path, data_set)
        return self.at(path, data_set, sync=sync)

    def __repr__(self) -> str:
        return self.module.__name__.rsplit(".", 1)[1]


class InFile(Kind):
    """A file of its own."""

    module, reader, checks = ledger_file, LedgerFile, "_verify"

    def at(self, path: Path, data_set: str = "x", *, sync: bool = True) -> LedgerFile:
        return LedgerFile(path, data_set, sync=sync)

    def begin(self, path: Path, data_set: str = "x") -> None:
        create_ledgers([LedgerFile(path, data_set)])

    def flush(self, path: Path) -> None:
        sync_ledgers([path])

    def notices(self, path: Path) -> tuple[Callable[[], object], ...]:
        return (self.at(path).entries, lambda: self.at(path).charge(charge(99), **NO_LIMIT))


class Flushed(StoredLedger):
    """A ledger in a store that is flushed after every charge."""

    def charge(self, *args: Any, **limits: Any) -> Spending:
        spending = super().charge(*args, **limits)
        self.store.flush()
        return spending


class InStore(Kind):
    """A store of several."""

    module, reader, checks = ledger_store, LedgerStore, "_read_on"

    def at(self, path: Path, data_set: str = "x", *, sync: bool = True) -> StoredLedger:
        return (Flushed if sync else StoredLedger)(LedgerStore(path), data_set)

    def begin(self, path: Path, data_set: str = "x") -> None:
        LedgerStore(path).begin({*OTHERS, data_set})

    def flush(self, path: Path) -> None:
        LedgerStore(path).flush()

    def notices(self, path: Path) -> tuple[Callable[[], object], ...]:
        def charged_by_another() -> None:
            with another_process():
                self.at(path).charge(charge(99), **NO_LIMIT)

        return (self.at(path).entries, LedgerStore(path).flush, charged_by_another)


KINDS = (InFile(), InStore())
over_both = pytest.mark.parametrize("kind", KINDS, ids=repr)
