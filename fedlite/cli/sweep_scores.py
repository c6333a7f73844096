"""The jobs of a sweep and their scores: which repeat each other, and how they differ by seed."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from fedlite.base.intervals import mean_interval
from fedlite.base.records import Metric, ModelKey
from fedlite.report.schema import Report
from fedlite.report.words import final_model, metric_of

Column = Literal["Public only", "Federated", "Final"]
COLUMNS: tuple[Column, ...] = get_args(Column)


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep that has ended.

    ``values`` are those of the swept options, ``failure`` is why it failed (empty where it did
    not), ``report`` what it reported.
    """

    directory: Path
    values: dict[str, str]
    failure: str = ""
    report: Report | None = None

    @property
    def name(self) -> str:
        """Its number."""
        return self.directory.name

    @property
    def seed(self) -> int | None:
        """That of a finished job."""
        return None if self.report is None else self.report["run"]["seed"]


@dataclass(frozen=True)
class Difference:
    """How much better one group of jobs is than another, over the seeds that both have.

    ``low`` and ``high`` bound the mean with 95% confidence
    (:func:`fedlite.base.intervals.mean_interval`).
    """

    seeds: int
    mean: float
    low: float
    high: float


def swept_but_seed(jobs: Sequence[SweepJob]) -> list[str]:
    """The swept options but the seed."""
    return [option for option in jobs[0].values if option != "seed"] if jobs else []


def repeats(jobs: Sequence[SweepJob]) -> list[list[SweepJob]]:
    """Finished jobs, those that differ in nothing but their seed together, in order."""
    found: dict[tuple[str, ...], list[SweepJob]] = {}
    for job in jobs:
        if job.report is not None:
            key = tuple(value for option, value in job.values.items() if option != "seed")
            found.setdefault(key, []).append(job)
    return list(found.values())


def sweep_metric(jobs: Sequence[SweepJob]) -> Metric:
    """What all jobs are judged by; the accuracy where that differs."""
    metrics = {metric_of(job.report) for job in jobs if job.report}
    return metrics.pop() if len(metrics) == 1 else "accuracy"


def score_in(report: Report, column: Column, metric: Metric) -> float | None:
    """The score of one of ``COLUMNS``; None where there is no such model."""
    keys: dict[Column, ModelKey | None] = {
        "Public only": "public_student",
        "Federated": "federated_student",
        "Final": final_model(report),
    }
    key = keys[column]
    return report["models"][key][metric] if key in report["models"] else None


def scores_of(jobs: Sequence[SweepJob], column: Column, metric: Metric) -> list[float]:
    """The scores of those jobs that have one."""
    found = (score_in(job.report, column, metric) for job in jobs if job.report)
    return [score for score in found if score is not None]


def difference(
    before: Sequence[SweepJob], after: Sequence[SweepJob], column: Column, metric: Metric
) -> Difference | None:
    """By how much ``after`` is better than ``before``, seed by seed: what a seed decides alike for
    both (split, first weights) is in no difference. None with fewer than two seeds in common."""
    first, second = (
        {
            job.seed: score
            for job in group
            if job.report and (score := score_in(job.report, column, metric)) is not None
        }
        for group in (before, after)
    )
    gains = [second[seed] - first[seed] for seed in first if seed in second]
    if len(gains) < 2:
        return None
    return Difference(len(gains), statistics.mean(gains), *mean_interval(gains))


def spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """The mean, and the standard deviation of several values; a dash without a value.

    >>> spread([0.90, 0.92], "{:.3f}".format), spread([0.90], "{:.3f}".format)
    ('0.910 ±0.014', '0.900')
    """
    if not values:
        return "–"
    mean = shown(statistics.mean(values))
    if len(values) == 1:
        return mean
    return f"{mean} ±{shown(statistics.stdev(values)).removesuffix('%')}"
