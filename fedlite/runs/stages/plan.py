"""The plan: what the federation may spend, and whose ledgers it charges, before the first charge.

From here on the run directory belongs to this plan: its ledgers do.
"""

import logging

from fedlite.runs.derived import derived_constants, derived_line, far_off_line
from fedlite.runs.facts import PlanFacts
from fedlite.runs.pipeline import Pipeline

log = logging.getLogger(__name__)


def run(pipeline: Pipeline) -> PlanFacts:
    """Keep the plans that were calibrated, and whose examples the ledgers are of; warn of constants
    that private data filled in."""
    if derived := derived_constants(pipeline.config):
        log.warning("constants %s", derived_line(derived))
    if line := far_off_line(pipeline.config, pipeline.splits.client_sizes()):
        log.warning("%s", line)
    return {
        "plans": pipeline.plans.to_facts(),
        "ledger_dir": pipeline.config.privacy.ledger_dir,
        "division": pipeline.division.sha256 if pipeline.config.privacy.private else None,
    }
