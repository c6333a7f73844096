"""The plan: what the federation may spend, and whose ledgers it charges, before the first charge.

From here on the run directory belongs to this plan: its ledgers do.
"""

from typing import Any, TypedDict

from fedlite.runs.pipeline import Pipeline


class Facts(TypedDict):
    """The plans as plain values, and ``privacy.ledger_dir`` (None: in the run directory)."""

    plans: dict[str, Any]
    ledger_dir: str | None


def run(pipeline: Pipeline) -> Facts:
    """Keep the plans that were calibrated."""
    return {
        "plans": pipeline.plans.to_facts(),
        "ledger_dir": pipeline.config.privacy.ledger_dir,
    }
