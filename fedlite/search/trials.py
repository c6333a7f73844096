"""What a search tries and finds: trials, the limits they are held against, and their file."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedlite.base.errors import FedliteError
from fedlite.base.files import read_json, write_json
from fedlite.base.records import Metric

Choice = str | int | float
Options = dict[str, Choice]

LEAST_DROP = 0.01  # in which accuracy beyond its limit is counted where the limit is smaller


@dataclass(frozen=True)
class Outcome:
    """What one trial came to: costs in the serving runtime, accuracy on public validation data
    (or macro-F1, where ``dataset.metric`` asks for it).

    ``latency_ms`` is the median at batch 1, ``bytes`` the size of the file; both are None where a
    trial makes no file. ``accuracy`` is None where the costs alone ruled the trial out and nothing
    was trained. ``file`` is relative to the search's directory.
    """

    latency_ms: float | None = None
    bytes: int | None = None
    accuracy: float | None = None
    parameters: int | None = None
    file: str = ""


@dataclass(frozen=True)
class Trial:
    """One point of the search space and what came of it.

    ``genes`` holds a value for every option of the space, or none where the candidate is from
    outside; ``options`` only those that make a difference (no criterion where nothing is pruned).
    ``outcome`` is None for a trial that failed, and ``reason`` says why.
    """

    number: int
    genes: Options
    options: Options
    outcome: Outcome | None
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Limits:
    """What a trial has to keep to; None is no limit.

    ``max_accuracy_drop`` is against ``reference_accuracy``; the two come together.
    """

    latency_ms: float | None = None
    bytes: int | None = None
    reference_accuracy: float | None = None
    max_accuracy_drop: float | None = None

    @property
    def least_accuracy(self) -> float | None:
        """The accuracy that is allowed at least; None without that limit."""
        if self.reference_accuracy is None or self.max_accuracy_drop is None:
            return None
        return self.reference_accuracy - self.max_accuracy_drop

    def excess(self, outcome: Outcome) -> dict[str, float]:
        """By limit, how far ``outcome`` is over it as a share of the limit; 0 or less keeps to it.

        Accuracy is counted in units of the drop that is allowed, at least one point, so that the
        sum of all excesses ranks a collapsed model behind one that is twice too large.
        """
        found: dict[str, float] = {}
        if self.latency_ms is not None and outcome.latency_ms is not None:
            found["latency_ms"] = outcome.latency_ms / self.latency_ms - 1
        if self.bytes is not None and outcome.bytes is not None:
            found["bytes"] = outcome.bytes / self.bytes - 1
        if self.max_accuracy_drop is not None and outcome.accuracy is not None:
            assert self.reference_accuracy is not None
            # Shares of the same examples: what is left after rounding is no drop.
            drop = round(self.reference_accuracy - outcome.accuracy, 9)
            unit = max(self.max_accuracy_drop, LEAST_DROP)
            found["accuracy"] = (drop - self.max_accuracy_drop) / unit
        return found

    def shortfall(self, outcome: Outcome) -> float:
        """The sum of what is over the limits; 0 where all are kept."""
        return sum(max(0.0, excess) for excess in self.excess(outcome).values())

    def feasible(self, trial: Trial) -> bool:
        """Whether a trial came to an end, with an accuracy, within all limits."""
        outcome = trial.outcome
        return outcome is not None and outcome.accuracy is not None and not self.shortfall(outcome)


@dataclass
class TrialFile:
    """The finished trials of one search, on disk after each: whole or absent, never half.

    ``identity`` is a hash of all that decides the trials. A file of another identity belongs to
    another search and is replaced with the first trial of this one.
    """

    path: Path
    identity: str
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, identity: str) -> "TrialFile":
        """The trials of an interrupted search with this identity, or none.

        Raises:
            FedliteError: the file is damaged.
        """
        if not path.exists():
            return cls(path, identity)
        saved = read_json(path)
        try:
            same = saved["identity"] == identity
            trials = [_trial(entry) for entry in saved["trials"]] if same else []
        except (KeyError, TypeError) as error:
            raise FedliteError(f"{path}: not a file of trials; delete it to search anew") from error
        return cls(path, identity, trials)

    def add(self, trial: Trial) -> None:
        """Append a finished trial and write the file."""
        self.trials.append(trial)
        entries = [dataclasses.asdict(one) for one in self.trials]
        write_json(self.path, {"identity": self.identity, "trials": entries})


def by_metric(metric: Metric) -> list[str]:
    """What the metric adds to a search's identity: nothing for the accuracy, as ever."""
    return [] if metric == "accuracy" else [metric]


def identity_of(*parts: Any) -> str:
    """SHA-256 over plain values, the same in every process."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _trial(entry: dict[str, Any]) -> Trial:
    outcome = None if entry["outcome"] is None else Outcome(**entry["outcome"])
    return Trial(**{**entry, "outcome": outcome})
