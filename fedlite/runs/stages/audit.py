"""The audit: attacks on the run's own training."""

import dataclasses

from fedlite.audit.attacks import run_audits
from fedlite.audit.audited import AuditedRun
from fedlite.runs.facts import NoFacts
from fedlite.runs.history import last_epsilons, rounds_of
from fedlite.runs.pipeline import Pipeline
from fedlite.runs.spending import read_spending
from fedlite.runs.stages.compress import shipped_options


def run(pipeline: Pipeline) -> NoFacts:
    """Write ``audits.json`` and its pictures."""
    config, directory = pipeline.config, pipeline.run
    federated = directory.facts["federate"]
    history = rounds_of(federated)
    spent = read_spending(
        config,
        pipeline.plans,
        pipeline.splits.all_numbers,
        pipeline.ledger_dir,
        directory.run_id,
        history,
        last_epsilons(federated),
    )
    charged = [sum(charge.run == directory.run_id for charge in one) for one in spent.clients]
    audited = AuditedRun(
        config=dataclasses.replace(config, compress=shipped_options(config, directory)),
        splits=pipeline.splits,
        plans=pipeline.plans,
        student=pipeline.first_student(),
        teacher=pipeline.load("teacher"),
        participations=max(charged, default=0) or len(history),
        rounds=len(history),
        directory=directory.path,
    )
    run_audits(audited, pipeline.progress, pipeline.board(config.federation.rounds + 1))
    return {}
