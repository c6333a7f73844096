"""The plan: what the federation may spend, and whose ledgers it charges, before the first charge.

From here on the run directory belongs to this plan: its ledgers do.
"""

from fedlite.runs.facts import PlanFacts
from fedlite.runs.pipeline import Pipeline


def run(pipeline: Pipeline) -> PlanFacts:
    """Keep the plans that were calibrated."""
    return {
        "plans": pipeline.plans.to_facts(),
        "ledger_dir": pipeline.config.privacy.ledger_dir,
    }
