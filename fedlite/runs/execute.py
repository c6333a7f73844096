"""Runs stages on a run directory: one process at a time, checked first, kept as far as it got."""

from collections.abc import Sequence
from contextlib import nullcontext

from fedlite.federation.simulation import hold_ledgers
from fedlite.report.progress import Progress
from fedlite.runs.config import Config
from fedlite.runs.directory import open_run
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.preflight import check_delivery, check_run
from fedlite.runs.stages.table import check_needed, fingerprints, run_stages


def execute(
    config: Config,
    overrides: Sequence[str],
    stages: Sequence[str],
    *,
    resume: bool,
    again: str | None = None,
) -> Pipeline:
    """Run stages in ``run.dir``; finished ones with the same options are kept.

    Args:
        config: of the run.
        overrides: the option strings that made it, kept for resume.
        stages: names of the table, in order.
        resume: go on in a directory that holds a run.
        again: a stage that is run although it is done.

    Raises:
        FedliteError: anything a person can put right; what is finished stays on disk.
    """
    with (
        open_run(config, list(overrides), resume=resume) as run,
        Progress(config.tracking.progress) as progress,
    ):
        check_delivery(config, stages)
        pipeline = Pipeline(config, run, progress, fingerprints(config))
        check_run(pipeline, stages)
        check_needed(pipeline, stages)
        held = hold_ledgers(
            config.privacy,
            config.dataset,
            config.partition,
            config.federation.num_clients,
            config.seed,
        )
        with held if "federate" in stages else nullcontext():
            run.keep_options(config, list(overrides))
            run_stages(pipeline, stages, again)
    return pipeline
