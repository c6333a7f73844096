"""The plan: what the federation may spend, and whose ledgers it charges, before the first charge.

From here on the run directory belongs to this plan: its ledgers do.
"""

import logging

from fedlite.federation.noise_walk import drowned_line, noise_walk
from fedlite.runs.derived import (
    derived_constants,
    derived_line,
    far_off_line,
    few_line,
    uneven_line,
)
from fedlite.runs.facts import PlanFacts
from fedlite.runs.pipeline import Pipeline

log = logging.getLogger(__name__)


def run(pipeline: Pipeline) -> PlanFacts:
    """Keep the plans that were calibrated, and whose examples the ledgers are of; warn of constants
    that private data filled in, of batches of few examples, and of noise that will drown the
    student."""
    config = pipeline.config
    if derived := derived_constants(config):
        log.warning("constants %s", derived_line(derived))
    sizes = pipeline.splits.client_sizes()
    lines = [judge(config, sizes) for judge in (far_off_line, uneven_line, few_line)]
    for line in filter(None, [*lines, *_drowned(pipeline)]):
        pipeline.warn(line)
    return {
        "plans": pipeline.plans.to_facts(),
        "ledger_dir": config.privacy.ledger_dir,
        "division": pipeline.division.sha256 if config.privacy.private else None,
    }


def _drowned(pipeline: Pipeline) -> list[str]:
    federation, clients = pipeline.config.federation, pipeline.splits.num_clients
    return [
        drowned_line(
            noise_walk(plan, federation, clients, pipeline.first_weights),
            example_level=plan is pipeline.plans.example,
        )
        for plan in (pipeline.plans.example, pipeline.plans.client)
        if plan is not None
    ]
