"""What a run refuses before anything is trained or charged."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from fedlite.compress.formats import require_converters
from fedlite.compress.signature import read_signing_key
from fedlite.config import Config
from fedlite.data import Splits
from fedlite.errors import UsageError
from fedlite.federation.engines import check_engine
from fedlite.federation.node import check_policy
from fedlite.models.build import build_model
from fedlite.plans import Plans
from fedlite.privacy import check_private_model
from fedlite.run_directory import RunDirectory

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


def check_run(config: Config, run: RunDirectory, splits: Splits, plans: Plans, mark: str) -> None:
    """Refuse what would fail later, and what would mix two runs in one directory.

    Args:
        mark: the fingerprint of the federation with these options.

    Raises:
        UsageError: names the option and what would be right.
    """
    check_engine(config.engine)
    started = run.facts("plan")
    if started and started["fingerprint"] != mark:
        raise UsageError(
            f"run.dir={run.path}: its federation was started with other options for data,"
            " teacher, student, distillation, privacy or federation; choose another directory"
        )
    if started and started["ledger_dir"] != config.privacy.ledger_dir:
        raise UsageError(
            f"privacy.ledger_dir={config.privacy.ledger_dir}: this run charges the ledgers in"
            f" {started['ledger_dir'] or run.file('ledgers')}; they cannot be exchanged"
        )
    task = splits.task
    student = build_model(config.student, task.input_shape, task.num_classes, config.seed)
    if config.private:
        check_private_model(student, task.input_shape)
        largest = max(splits.client_sizes())
        if config.example_level and config.privacy.delta * largest >= 1:
            raise UsageError(
                f"privacy.delta={config.privacy.delta:g}: must be below 1/n of every client;"
                f" the largest has {largest} examples (1/n = {1 / largest:.2g})"
            )
        check_policy(config, plans.example, splits.client_sizes())
        if config.privacy.randomness == "deterministic":
            log.warning("deterministic randomness: this run is NOT PRIVATE")
