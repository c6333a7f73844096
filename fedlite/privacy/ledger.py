"""The ledger: what one data set has spent, in an append-only file that only grows.

One file per data set, one JSON line per charge. Each line carries a SHA-256 that chains it to the
line before, so that a changed, reordered or missing line is noticed (only whole last lines cut off
are not). A charge is on disk (fsync) before training starts; nothing here can refund, overwrite or
restore. A last line without its line end is a charge that was cut off before training began: it is
dropped and the file goes on.

What a process has verified it does not parse again: a hash of those bytes is compared with the
file's every time, so a charge costs a few lines however long the ledger is, and whatever another
process appended, damaged or put back is seen (scripts/bench_ledger.py).
"""

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedlite.base.errors import FedliteError
from fedlite.privacy.accounting import Segment, compute_epsilon

FORMAT = "fedlite-ledger-1"
SERVER_LEDGER = "server.ledger"  # of client-level releases, beside those of the clients
SYNC_THREADS = 8  # file systems join flushes that wait together


class LedgerError(FedliteError):
    """A ledger that is damaged, belongs to other data, or cannot be written."""


@dataclass(frozen=True)
class Charge:
    """One participation: ``steps`` Poisson-sampled Gaussian steps of one round of one run.

    ``noise_multiplier`` is the one that the accountants compose. Under ``trust`` aggregate that is
    the noise of the whole sum, and ``client_noise_multiplier`` the share that the client itself
    added (None: the same, as under trust local).
    """

    run: str
    round: int
    noise_multiplier: float
    sample_rate: float
    steps: int
    trust: str = "local"
    client_noise_multiplier: float | None = None

    def __post_init__(self) -> None:
        """Refuse a charge that would not cost anything, or give something back.

        Raises:
            ValueError: names the field.
        """
        if not (isinstance(self.run, str) and isinstance(self.round, int)):
            raise ValueError(f"run {self.run!r} and round {self.round!r} are not text and number")
        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise ValueError(f"steps {self.steps} is not a whole number of 1 or more")
        if not _positive(self.noise_multiplier):
            raise ValueError(f"noise multiplier {self.noise_multiplier} is not above 0 and finite")
        if not (_positive(self.sample_rate) and self.sample_rate <= 1):
            raise ValueError(f"sample rate {self.sample_rate} is not above 0 and at most 1")
        if self.trust not in ("local", "aggregate"):
            raise ValueError(f"trust {self.trust!r} is not local or aggregate")
        own = self.client_noise_multiplier
        if own is not None and not _positive(own):
            raise ValueError(f"client noise multiplier {own} is not above 0 and finite")
        if own is not None and self.trust == "local" and own < self.noise_multiplier:
            raise ValueError(
                f"client noise multiplier {own} is below the {self.noise_multiplier} that trust"
                " local claims for the client alone"
            )

    @property
    def segment(self) -> Segment:
        """The charge as the accountants take it; under trust aggregate, towards those who see
        sums only."""
        return (self.noise_multiplier, self.sample_rate, self.steps)

    @property
    def local_segment(self) -> Segment:
        """The charge towards those who see the client's own update."""
        own = self.client_noise_multiplier
        return (self.noise_multiplier if own is None else own, self.sample_rate, self.steps)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


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
    if after <= budget:
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
    return planned if len({(entry.run, entry.segment) for entry in history}) <= 1 else "rdp"


@dataclass(frozen=True)
class _Verified:
    """The part of a ledger file that this process has parsed and found whole."""

    end: int = 0  # bytes
    sha256: bytes = hashlib.sha256().digest()  # of those bytes
    chain: str = ""  # the checksum of the last line
    charges: tuple[Charge, ...] = ()


_verified: dict[tuple[Path, str], _Verified] = {}  # by file and data set id


class Ledger:
    """The ledger file of one data set; the device that owns the data owns the file.

    Args:
        path: the file; it is created with its first charge.
        data_set: the id the device's policy gave its data (never a content hash).
        sync: False leaves the flushing of charges to :func:`sync_ledgers`. For simulations alone,
            where a power cut takes server, clients and untold updates together: there one flush of
            a cohort stands for one of every charge.
    """

    def __init__(self, path: Path, data_set: str, *, sync: bool = True) -> None:
        self.path = path
        self.data_set = data_set
        self.sync = sync

    def entries(self) -> list[Charge]:
        """All charges in order. Reads only: takes no lock and writes nothing.

        Raises:
            LedgerError: a damaged line, a ledger of another data set, or an unreadable file.
        """
        return list(self._read().charges)

    def epsilon(self, delta: float, accountant: str) -> float:
        """Epsilon of everything charged so far, towards those who see what was charged for."""
        return compute_epsilon([c.segment for c in self.entries()], delta, accountant)

    def charge(
        self, charge: Charge, *, budget: float, delta: float, accountant: str, replay: bool = False
    ) -> Spending:
        """Append ``charge`` and flush it to disk if the budget allows; otherwise write nothing.

        Whatever is killed afterwards, the charge stays.

        Args:
            replay: deterministic mode, where a repeated (run, round) is the same release and is
                charged once. Never set it when noise is fresh.

        Raises:
            LedgerError: damaged or foreign ledger, or a disk that cannot be written.
        """
        with self._locked():
            known = self._read()
            history = known.charges
            if replay and any((e.run, e.round) == (charge.run, charge.round) for e in history):
                spent = compute_epsilon(segments(history, charge.trust), delta, accountant)
                return Spending(accepted=True, epsilon=spent)
            spending = affordable(
                history, charge, budget=budget, delta=delta, accountant=accountant
            )
            if spending.accepted:
                self._append(charge, known)
            return spending

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            if not self.path.parent.is_dir():
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with Path(f"{self.path}.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the file, and with the process
                yield
        except OSError as error:
            raise LedgerError(
                f"ledger {self.path}: cannot be written ({error.strerror or error});"
                " nothing was trained"
            ) from error

    def _read(self) -> _Verified:
        """The whole lines of the file, verified; only those that are new are parsed."""
        raw = self._bytes()
        key = (self.path.absolute(), self.data_set)
        last = known = _verified.get(key, _Verified()) if raw else _Verified()
        sha256 = hashlib.sha256(raw[: known.end])
        if sha256.digest() != known.sha256:
            known, sha256 = _Verified(), hashlib.sha256()
        chain, charges = known.chain, list(known.charges)
        end = raw.rfind(b"\n") + 1
        new_lines = raw[known.end : end].decode(errors="replace").splitlines()
        for number, line in enumerate(new_lines, len(charges) + 2 if chain else 1):
            try:
                record = json.loads(line)
                body, digest = record["entry"], record["sha256"]
                chain = _link(chain, body)
                if number == 1 and body != self._header():
                    raise LedgerError(
                        f"ledger {self.path}: belongs to another data set"
                        f" ({body.get('data_set')!r} instead of {self.data_set!r})"
                    )
                if number > 1:
                    charges.append(Charge(**body))
                if digest != chain:
                    raise ValueError("checksum differs")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise LedgerError(
                    f"ledger {self.path}: line {number} is damaged ({error}); charges may be"
                    " missing, so nothing is trained on this data until the file is restored"
                ) from error
        if tuple(charges[: len(last.charges)]) != last.charges:
            raise LedgerError(
                f"ledger {self.path}: charges that were there before are gone; a ledger is never"
                " put back to an earlier state, so nothing is trained on this data until it is"
                " whole again"
            )
        sha256.update(raw[known.end : end])
        _verified[key] = _Verified(end, sha256.digest(), chain, tuple(charges))
        return _verified[key]

    def _bytes(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise LedgerError(
                f"ledger {self.path}: cannot be read ({error.strerror or error})"
            ) from error

    def _header(self) -> dict[str, str]:
        return {"format": FORMAT, "data_set": self.data_set}

    def _append(self, charge: Charge, known: _Verified) -> None:
        bodies: list[Mapping[str, object]] = [vars(charge)]
        if known.end == 0:
            bodies.insert(0, self._header())
        chain, lines = known.chain, []
        for body in bodies:
            chain = _link(chain, body)
            lines.append(_text({"entry": body, "sha256": chain}) + "\n")
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.truncate(known.end)
            file.seek(known.end)
            file.write("".join(lines).encode())
            if self.sync:
                file.flush()
                os.fsync(file.fileno())
        if self.sync and known.end == 0:
            for directory in _directories(self.path.parent):
                _sync(directory)


def data_set_of(path: Path) -> str:
    """The data set id in the first line of a ledger file; what follows is not looked at.

    Raises:
        LedgerError: no such line.
    """
    try:
        with path.open("rb") as file:
            return str(json.loads(file.readline())["entry"]["data_set"])
    except OSError as error:
        raise LedgerError(f"ledger {path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"ledger {path}: line 1 is damaged ({error})") from error


def sync_ledgers(paths: Iterable[Path]) -> None:
    """Flush the charges of one simulated cohort to disk, all at once.

    For ledgers opened with ``sync=False``; call it before anything that the charged training
    produced outlives the processes. Ledgers that do not exist yet are passed over.

    Raises:
        LedgerError: the disk cannot be written.
    """
    files = [path for path in paths if path.exists()]
    names = {name for folder in {path.parent for path in files} for name in _directories(folder)}
    try:
        with ThreadPoolExecutor(SYNC_THREADS) as pool:
            list(pool.map(_sync, [*files, *sorted(names)]))
    except OSError as error:
        raise LedgerError(f"ledgers: cannot be written ({error.strerror or error})") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _directories(folder: Path) -> Iterator[Path]:
    """What holds the name of a new file in ``folder``: that directory and those above it, which
    may be new too; up to one that is surely older."""
    for directory in (folder.absolute(), *folder.absolute().parents):
        if not os.access(directory, os.R_OK):  # nobody makes a directory that he may not list
            return
        yield directory
        if directory.is_mount():
            return


def _link(previous: str, body: object) -> str:
    return hashlib.sha256((previous + _text(body)).encode()).hexdigest()


_text = json.JSONEncoder(sort_keys=True).encode
