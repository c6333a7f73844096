"""The ledger: what one data set has spent, in an append-only file that only grows.

One file per data set, one JSON line per charge. Each line carries a SHA-256 that chains it to the
line before, so that a changed, reordered or missing line is noticed (only whole last lines cut off
are not). A charge is on disk (fsync) before training starts; nothing here can refund, overwrite or
restore. A last line without its line end is a charge that was cut off before training began: it is
dropped and the file goes on.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from fedlite.errors import FedliteError
from fedlite.privacy.accounting import Segment, compute_epsilon

FORMAT = "fedlite-ledger-1"


class LedgerError(FedliteError):
    """A ledger that is damaged, belongs to other data, or cannot be written."""


@dataclass(frozen=True)
class Charge:
    """One participation: ``steps`` Poisson-sampled Gaussian steps of one round of one run."""

    run: str
    round: int
    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse a charge that would not cost anything, or give something back.

        Raises:
            ValueError: names the field.
        """
        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise ValueError(f"steps {self.steps} is not a whole number of 1 or more")
        if not 0 < self.noise_multiplier < math.inf:
            raise ValueError(f"noise multiplier {self.noise_multiplier} is not above 0 and finite")
        if not 0 < self.sample_rate <= 1:
            raise ValueError(f"sample rate {self.sample_rate} is not above 0 and at most 1")

    @property
    def segment(self) -> Segment:
        """The charge as the accountants take it."""
        return (self.noise_multiplier, self.sample_rate, self.steps)


@dataclass(frozen=True)
class Spending:
    """The answer to a charge: whether it stands, and the epsilon spent with (or without) it."""

    accepted: bool
    epsilon: float
    reason: str = ""


def affordable(
    history: list[Charge], charge: Charge, *, budget: float, delta: float, accountant: str
) -> Spending:
    """Whether ``charge`` after ``history`` stays within ``budget`` (a pure function).

    The plan's accountant decides as long as the ledger holds this run alone. As soon as it holds
    another run, RDP decides: a later run may have chosen its noise after seeing results, and RDP
    composes under adaptive choice (Feldman and Zrnic 2021).
    """
    by = accountant if all(entry.run == charge.run for entry in history) else "rdp"
    spent = [entry.segment for entry in history]
    after = compute_epsilon([*spent, charge.segment], delta, by)
    if after <= budget:
        return Spending(accepted=True, epsilon=after)
    before = compute_epsilon(spent, delta, by)
    reason = (
        f"epsilon {after:.3f} after this round would exceed the budget {budget:g}"
        f" (spent {before:.3f}, accountant {by})"
    )
    return Spending(accepted=False, epsilon=before, reason=reason)


class Ledger:
    """The ledger file of one data set; the device that owns the data owns the file.

    Args:
        path: the file; it is created with its first charge.
        data_set: the id the device's policy gave its data (never a content hash).
    """

    def __init__(self, path: Path, data_set: str) -> None:
        self.path = path
        self.data_set = data_set

    def entries(self) -> list[Charge]:
        """All charges in order.

        Raises:
            LedgerError: a damaged line, or a ledger of another data set.
        """
        charges, _, _ = self._read()
        return charges

    def epsilon(self, delta: float, accountant: str) -> float:
        """Epsilon of everything charged so far."""
        return compute_epsilon([c.segment for c in self.entries()], delta, accountant)

    def charge(
        self, charge: Charge, *, budget: float, delta: float, accountant: str, replay: bool = False
    ) -> Spending:
        """Append ``charge`` and flush it to disk if the budget allows; otherwise write nothing.

        Args:
            replay: deterministic mode, where a repeated (run, round) is the same release and is
                charged once. Never set it when noise is fresh.

        Raises:
            LedgerError: damaged or foreign ledger, or a disk that cannot be written.
        """
        with self._locked():
            history, chain, end = self._read()
            if replay and any((e.run, e.round) == (charge.run, charge.round) for e in history):
                spent = compute_epsilon([e.segment for e in history], delta, accountant)
                return Spending(accepted=True, epsilon=spent)
            spending = affordable(
                history, charge, budget=budget, delta=delta, accountant=accountant
            )
            if spending.accepted:
                self._append(charge, chain, end)
            return spending

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):
                yield
        except OSError as error:
            raise LedgerError(
                f"ledger {self.path}: cannot be written ({error.strerror or error});"
                " nothing was trained"
            ) from error

    def _read(self) -> tuple[list[Charge], str, int]:
        """Charges, the chain value of the last good line, and the byte where it ends."""
        raw = self.path.read_bytes() if self.path.exists() else b""
        end = raw.rfind(b"\n") + 1
        chain, charges = _link("", self._header()), []
        for number, line in enumerate(raw[:end].decode(errors="replace").splitlines(), 1):
            try:
                record = json.loads(line)
                body, digest = record["entry"], record["sha256"]
                if number == 1 and body != self._header():
                    raise LedgerError(
                        f"ledger {self.path}: belongs to another data set"
                        f" ({body.get('data_set')!r} instead of {self.data_set!r})"
                    )
                if number > 1:
                    chain = _link(chain, body)
                    charges.append(Charge(**body))
                if digest != chain:
                    raise ValueError("checksum differs")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise LedgerError(
                    f"ledger {self.path}: line {number} is damaged ({error}); charges may be"
                    " missing, so nothing is trained on this data until the file is restored"
                ) from error
        return charges, chain, end

    def _header(self) -> dict[str, str]:
        return {"format": FORMAT, "data_set": self.data_set}

    def _append(self, charge: Charge, chain: str, end: int) -> None:
        is_new = end == 0
        body = asdict(charge)
        lines = [_line(self._header(), chain)] if is_new else []
        lines.append(_line(body, _link(chain, body)))
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.truncate(end)
            file.seek(end)
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def _line(body: dict[str, object] | dict[str, str], digest: str) -> str:
    return json.dumps({"entry": body, "sha256": digest}, sort_keys=True) + "\n"


def _link(previous: str, body: object) -> str:
    text = previous + json.dumps(body, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
