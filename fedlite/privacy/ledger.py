"""The ledger: what one data set has spent, and whether it may spend more.

A charge is on record before training starts, and whatever is killed afterwards, it stays: a ledger
only grows. Its owner begins it, once; from then on one that is missing, empty or shorter than
before is refused, for with it the budget would begin anew. Here is the accounting, the same for
every ledger. Where the lines are kept is for two others: in a file of its own, on a device
(:mod:`fedlite.privacy.ledger_file`), or in one store for all clients of a simulation
(:mod:`fedlite.privacy.ledger_store`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from fedlite.base.errors import FedliteError
from fedlite.privacy.accounting import Segment, compute_epsilon
from fedlite.privacy.charges import Charge


class LedgerError(FedliteError):
    """A ledger that is damaged, belongs to other data, or cannot be written."""


@dataclass(frozen=True)
class Spending:
    """The answer to a charge: whether it stands, and the epsilon spent with (or without) it."""

    accepted: bool
    epsilon: float
    reason: str = ""


def affordable(
    history: Sequence[Charge], charge: Charge, *, budget: float, delta: float, accountant: str
) -> Spending:
    """Whether ``charge`` after ``history`` stays within ``budget`` (a pure function).

    The plan's accountant decides as long as the ledger holds one plan alone. As soon as it holds
    another run, or other noise under the same run's name, RDP decides: what came later may have
    been chosen after seeing results, and RDP composes under adaptive choice (Feldman and Zrnic
    2021).
    """
    by = fitting_accountant([*history, charge], accountant)
    spent = segments(history, charge.trust)
    after = compute_epsilon([*spent, charge.segment], delta, by)
    if after <= budget and math.isfinite(after):
        return Spending(accepted=True, epsilon=after)
    before = compute_epsilon(spent, delta, by)
    reason = (
        f"epsilon {after:.3f} after this round would exceed the budget {budget:g}"
        f" (spent {before:.3f}, accountant {by})"
    )
    return Spending(accepted=False, epsilon=before, reason=reason)


def segments(history: Iterable[Charge], trust: str) -> list[Segment]:
    """The charges as a claim under ``trust`` must count them.

    A local claim holds against who sees single updates: what was charged for sums counts there
    with the noise of one client alone.
    """
    if trust == "local":
        return [entry.local_segment for entry in history]
    return [entry.segment for entry in history]


def fitting_accountant(history: Sequence[Charge], planned: str) -> str:
    """``planned`` where one run charged one plan alone, else rdp."""
    plans = {(entry.run, entry.segment, entry.local_segment) for entry in history}
    return planned if len(plans) <= 1 else "rdp"


class Ledger(ABC):
    """What one data set has spent.

    ``data_set`` is the id that the device's policy gave its data (never a content hash), ``path``
    the file that holds the charges.
    """

    data_set: str
    path: Path

    @abstractmethod
    def entries(self) -> list[Charge]:
        """All charges in order. Reads only: takes no lock and writes nothing.

        Raises:
            LedgerError: missing, empty, damaged, shorter than before, of another data set, or
                unreadable.
        """

    @abstractmethod
    def _held(self) -> AbstractContextManager[tuple[Sequence[Charge], Callable[[Charge], None]]]:
        """While no other process can charge: all charges, and what puts one more on record.

        Raises:
            LedgerError: as :meth:`entries`, held by others for too long, or a disk that cannot be
                written.
        """

    def epsilon(self, delta: float, accountant: str) -> float:
        """Epsilon of everything charged so far, towards those who see what was charged for."""
        return compute_epsilon([c.segment for c in self.entries()], delta, accountant)

    def charge(
        self, charge: Charge, *, budget: float, delta: float, accountant: str, replay: bool = False
    ) -> Spending:
        """Put ``charge`` on record if the budget allows; otherwise write nothing.

        Whatever is killed afterwards, the charge stays. All that can fail comes before it.

        Args:
            replay: deterministic mode, where a repeated (run, round) is the same release and is
                charged once. Never set it when noise is fresh.

        Raises:
            LedgerError: as :meth:`entries`, held by others for too long, or a disk that cannot be
                written.
        """
        with self._held() as (history, append):
            if replay and any((e.run, e.round) == (charge.run, charge.round) for e in history):
                spent = compute_epsilon(segments(history, charge.trust), delta, accountant)
                return Spending(accepted=True, epsilon=spent)
            spending = affordable(
                history, charge, budget=budget, delta=delta, accountant=accountant
            )
            if spending.accepted:
                append(charge)
            return spending
