"""One run, fully specified: the sum of the rooms' options, and what they mean together."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge

from fedlite.audit.options import AuditOptions
from fedlite.base.options import NEUTRAL, PATH, Doc, Options, parse
from fedlite.compress.options import CompressOptions, check_compress
from fedlite.data.options import DatasetOptions, PartitionOptions
from fedlite.distill.options import CascadeOptions, DistillOptions, TeacherOptions
from fedlite.federation.options import EngineOptions, FederationOptions, FleetOptions
from fedlite.models.options import ModelOptions, check_scaling
from fedlite.privacy.options import PrivacyOptions
from fedlite.report.options import TrackingOptions
from fedlite.runs.rules import check_fleet, check_student_classes, check_together
from fedlite.search.options import StudentSearchOptions, TuneOptions, check_student_search


@dataclass(frozen=True)
class RunOptions(Options):
    """The run directory and whether to go on in it."""

    dir: Annotated[str, PATH, NEUTRAL, Doc("run directory")]
    resume: Annotated[
        bool, NEUTRAL, Doc("go on with the run in run.dir; start it where there is none")
    ] = False


@dataclass(frozen=True)
class Config(Options):
    """One run, fully specified; each field is a group of ``conf/``."""

    run: RunOptions
    dataset: DatasetOptions
    partition: PartitionOptions
    teacher: TeacherOptions
    student: ModelOptions
    seed: Annotated[
        int, Ge(0), Doc("fixes partition, weights, cohorts; never the noise of a private run")
    ] = 0
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        NEUTRAL,
        Doc("where networks compute; auto: a GPU if there is one"),
    ] = "auto"
    distill: DistillOptions = field(default_factory=DistillOptions)
    privacy: PrivacyOptions = field(default_factory=PrivacyOptions)
    federation: FederationOptions = field(default_factory=FederationOptions)
    fleet: FleetOptions = field(default_factory=FleetOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    compress: CompressOptions = field(default_factory=CompressOptions)
    cascade: CascadeOptions = field(default_factory=CascadeOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
    audit: AuditOptions = field(default_factory=AuditOptions)
    search_student: StudentSearchOptions = field(default_factory=StudentSearchOptions)
    tune: TuneOptions = field(default_factory=TuneOptions)

    def to_plain(self) -> dict[str, Any]:
        """Every option as plain nested values; :func:`config_from_plain` is the inverse."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain


def config_from_plain(plain: Mapping[str, Any]) -> Config:
    """A checked configuration from plain nested values.

    Raises:
        UsageError: an unknown key, a wrong type, a value outside its range, or options that
            contradict each other; one line each.
    """
    config = parse(Config, plain)
    check_scaling(config.teacher)
    check_compress(config.compress)
    check_student_search(config.search_student)
    check_together(config.dataset, config.privacy, config.federation)
    check_fleet(config.fleet, config.privacy, config.federation)
    check_student_classes(config.federation, config.privacy, config.fleet, config.engine)
    return config
