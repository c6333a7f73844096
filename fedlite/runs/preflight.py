"""What a run refuses before anything is trained or charged."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from fedlite.base.errors import UsageError
from fedlite.compress.exporting import require_converters
from fedlite.distill.loss import build_loss, check_separable, check_taps
from fedlite.federation.simulation import check_policy
from fedlite.federation.transport.engines import check_engine
from fedlite.privacy.probe import check_private_model
from fedlite.runs.config import Config
from fedlite.runs.pipeline import Pipeline
from fedlite.serve.signature import read_signing_key

log = logging.getLogger(__name__)


def check_delivery(config: Config, stages: Sequence[str]) -> None:
    """Refuse what would fail once the files are made: a converter, a key, a search without runtime.

    Args:
        stages: that are about to run.

    Raises:
        FedliteError: names the option and what would be right.
    """
    compress = config.compress
    searches = "search_student" in stages or (compress.search.enabled and "compress" in stages)
    if searches or "compress" in stages:
        require_converters(compress)
    if compress.signing_key and "report" in stages:
        read_signing_key(Path(compress.signing_key))
    if searches and compress.formats[0] == "coreml" and sys.platform != "darwin":
        raise UsageError(
            "compress.formats=[coreml,...]: a search measures files of the first format, and Core"
            " ML runs on macOS only; put another format first"
        )


def check_run(pipeline: Pipeline) -> None:
    """Refuse what would fail later, and what would mix two runs in one directory.

    Raises:
        UsageError: names the option and what would be right.
    """
    config, run, splits = pipeline.config, pipeline.run, pipeline.splits
    privacy, plans = config.privacy, pipeline.plans
    check_engine(config.engine)
    started = run.facts.get("plan")
    if started and not run.done("plan", pipeline.marks["plan"]):
        raise UsageError(
            f"run.dir={run.path}: its federation was started with other options for data,"
            " teacher, student, distillation, privacy or federation; choose another directory"
        )
    if started and started["ledger_dir"] != privacy.ledger_dir:
        raise UsageError(
            f"privacy.ledger_dir={privacy.ledger_dir}: this run charges the ledgers in"
            f" {started['ledger_dir'] or run.file('ledgers')}; they cannot be exchanged"
        )
    given, example = privacy.expected_examples, plans.example
    if started and example and given not in (None, example.expected_examples):
        raise UsageError(
            f"privacy.expected_examples={given}: this run was planned with"
            f" {example.expected_examples}; choose another directory"
        )
    student, loss = pipeline.build(config.student), build_loss(config.distill)
    check_taps(loss, student, pipeline.build(config.teacher))
    if not privacy.private:
        return
    check_private_model(student, splits.task)
    largest = max(splits.client_sizes())
    if privacy.example_level:
        check_separable(loss, f"distill.loss={config.distill.loss}")
        if privacy.delta * largest >= 1:
            raise UsageError(
                f"privacy.delta={privacy.delta:g}: must be below 1/n of every client;"
                f" the largest has {largest} examples (1/n = {1 / largest:.2g})"
            )
    check_policy(privacy, config.dataset.name, plans.example, splits.client_sizes())
    if privacy.randomness == "deterministic":
        log.warning("deterministic randomness: this run is NOT PRIVATE")
