"""The plan: what the federation may spend, and whose ledgers it charges, before the first charge.

From here on the run directory belongs to this plan: its ledgers do.
"""

from fedlite.runs.facts import PlanFacts
from fedlite.runs.pipeline import Pipeline


def run(pipeline: Pipeline) -> PlanFacts:
    """Keep the plans that were calibrated, and whose examples the ledgers are of."""
    return {
        "plans": pipeline.plans.to_facts(),
        "ledger_dir": pipeline.config.privacy.ledger_dir,
        "division": pipeline.division.sha256 if pipeline.config.privacy.private else None,
    }
