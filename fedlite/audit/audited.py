"""What an audit must know of a run: its options, plans, and what clients were charged for."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from torch import nn

from fedlite.audit.options import AuditOptions
from fedlite.compress.options import CompressOptions
from fedlite.data.options import DatasetOptions
from fedlite.data.splits import Splits
from fedlite.distill.class_weights import class_weights
from fedlite.distill.options import DistillOptions
from fedlite.federation.options import FederationOptions
from fedlite.federation.plans import Plans
from fedlite.models.options import ModelOptions, ScaledModelOptions
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.options import PrivacyOptions, Unit
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import derive_seed

LARGEST_DELTA = 1e-5  # a larger one would drown a bound; every plan has an epsilon here too


class Audited(Protocol):
    """The options of a run that decide its training and compression."""

    @property
    def seed(self) -> int: ...

    @property
    def device(self) -> str: ...

    @property
    def dataset(self) -> DatasetOptions: ...

    @property
    def distill(self) -> DistillOptions: ...

    @property
    def teacher(self) -> ScaledModelOptions: ...

    @property
    def student(self) -> ModelOptions: ...

    @property
    def privacy(self) -> PrivacyOptions: ...

    @property
    def federation(self) -> FederationOptions: ...

    @property
    def compress(self) -> CompressOptions: ...

    @property
    def audit(self) -> AuditOptions: ...


@dataclass(frozen=True)
class AuditedRun:
    """A finished run as the audits see it.

    ``student`` and ``teacher`` are those that round 1 started with. ``participations`` is how many
    rounds the most active client was charged for, ``rounds`` how many there were.
    """

    config: Audited
    splits: Splits
    plans: Plans
    student: nn.Module
    teacher: nn.Module
    participations: int
    rounds: int
    directory: Path

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Of the student's loss, as the run's clients were sent them."""
        labels, classes = self.splits.public.labels, self.splits.task.num_classes
        return class_weights(labels, classes, self.config.distill.class_weights)

    @property
    def delta(self) -> float:
        """At which the bounds on one example are given."""
        plan = self.plans.example
        return min(plan.delta, LARGEST_DELTA) if plan else LARGEST_DELTA

    @property
    def claimed_epsilon(self) -> float | None:
        """Of one example at :attr:`delta`; None without example-level privacy."""
        plan = self.plans.example
        if plan is None:
            return None
        segment = (plan.noise_multiplier, plan.sample_rate, plan.steps * self.participations)
        return compute_epsilon([segment], self.delta, plan.accountant)

    def privacy(self, unit: Unit) -> PrivacyOptions:
        """The run's options with the unit that is audited. Its budget is the run's; a policy file
        is left out, because it is for the devices' data."""
        return replace(self.config.privacy, unit=unit, policy=None)

    def seed(self, purpose: str) -> int:
        """For a draw of the audit's own."""
        return derive_seed(self.config.seed, f"audit-{purpose}")


def sum_level(plan: PrivacyPlan) -> PrivacyPlan:
    """The plan by which one training carries all the noise that a released sum carries."""
    return replace(plan, trust="local", min_cohort=1, colluders=0)
