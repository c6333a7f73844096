"""The report of a run of several classes, put together from theirs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join

from fedlite.base.records import JoinRecord
from fedlite.report.classes import ClassesReport, StudentClassEntry
from fedlite.report.write import load_report
from fedlite.runs.config import Config
from fedlite.runs.directory import load_overrides
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.together import spent_together


def classes_report(
    config: Config,
    directory: Path,
    joined: Mapping[str, Pipeline],
    alone: Mapping[str, Pipeline],
    joins: Sequence[JoinRecord],
) -> ClassesReport:
    """What the reports of all classes say together.

    Args:
        config: of the run of all classes, which lies in ``directory``.
        directory: of that run.
        joined: the run of each class.
        alone: each class by itself, as far as its rounds were run.
        joins: all of them.

    Raises:
        UsageError: a report is missing.
        FedliteError: a damaged ledger.
    """
    alone = {name: one for name, one in alone.items() if "federate" in one.run.facts}
    entries, together = [], {}
    for name, pipeline in joined.items():
        entries.append(
            StudentClassEntry(
                name,
                clients=pipeline.splits.num_clients,
                limit=config.federation.classes[name].max_bytes,
                report=load_report(pipeline.run.file("report.json")),
                alone=_reached(alone[name]) if name in alone else None,
            )
        )
        if name in alone and config.privacy.private:
            together[name] = spent_together([pipeline.run.path, alone[name].run.path])
    return ClassesReport(
        title=f"fedlite: {config.dataset.name}, {len(entries)} classes of students",
        command=join(["fedlite", "simulate", *load_overrides(directory)]),
        entries=entries,
        every=config.federation.join.every,
        joins=joins,
        together=together,
    )


def _reached(pipeline: Pipeline) -> float:
    """What the federated student of a run is worth on the test set."""
    found = pipeline.run.facts["federate"]["evaluation"]
    return found[pipeline.config.dataset.metric]
