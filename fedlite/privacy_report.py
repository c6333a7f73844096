"""What a run spent, from its ledgers, as the ``privacy`` section of the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedlite.config import Config
from fedlite.data import Splits
from fedlite.errors import FedliteError
from fedlite.federation.node import open_ledger
from fedlite.federation.server_app import open_server_ledger
from fedlite.plans import Plans
from fedlite.privacy import Charge, ClientPlan, PrivacyPlan, compute_epsilon
from fedlite.privacy.ledger import fitting_accountant


@dataclass(frozen=True)
class Spent:
    """Every charge that the ledgers of a run hold, other runs' on the same ledgers included."""

    clients: list[list[Charge]]
    server: list[Charge]


def read_spending(
    config: Config, plans: Plans, num_clients: int, directory: Path, run_id: str, trained: int
) -> Spent:
    """Read all ledgers of a run in which clients trained ``trained`` times.

    Raises:
        FedliteError: a damaged ledger, or one that holds fewer charges than there were releases.
    """
    clients, server = [], []
    if plans.example:
        clients = [open_ledger(directory, config, i).entries() for i in range(num_clients)]
        charged = sum(charge.run == run_id for ledger in clients for charge in ledger)
        if charged < trained:
            raise FedliteError(
                f"{directory}: holds {charged} charges of this run, but clients trained {trained}"
                " times; restore the ledgers, no epsilon is reported without them"
            )
    if plans.client:
        server = open_server_ledger(directory, config).entries()
        if trained and not any(charge.run == run_id for charge in server):
            raise FedliteError(
                f"{directory}: the server's ledger holds no charge of this run; restore it, no"
                " epsilon is reported without it"
            )
    return Spent(clients, server)


def privacy_section(
    config: Config,
    splits: Splits,
    plans: Plans,
    spent: Spent | None,
    audits: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The ``privacy`` section (docs/report.md): the plans, and with ``spent`` what was spent."""
    units = []
    if plans.example:
        units.append(_example_unit(plans.example, spent))
    if plans.client:
        units.append(_client_unit(plans.client, spent))
    for unit in units:
        bound = (audits or {}).get("dirac", {}).get(unit["unit"], {}).get("lower_bound")
        if bound is not None:
            unit["audited_epsilon"] = bound
    return {
        "private": bool(units),
        "randomness": config.privacy.randomness,
        "protects": splits.task.example,
        "units": units,
    }


def _example_unit(plan: PrivacyPlan, spent: Spent | None) -> dict[str, Any]:
    unit: dict[str, Any] = {"unit": "example", "accountant": plan.accountant}
    if spent is not None:
        by = _accountant(plan.accountant, spent.clients)
        epsilons = _epsilons(spent.clients, plan.delta, by)
        unit |= {
            "epsilon_max": max(epsilons),
            "epsilon_mean": float(np.mean(epsilons)),
            "epsilon_p95": float(np.quantile(epsilons, 0.95)),
            "epsilon_rdp_max": max(_epsilons(spent.clients, plan.delta, "rdp")),
            "participations_max": max(map(len, spent.clients)),
            "accountant": by,
        }
        if plan.trust == "aggregate":
            unit["local_epsilon_max"] = max(_epsilons(spent.clients, plan.delta, by, alone=True))
    unit |= {
        "delta": plan.delta,
        "budget": plan.epsilon,
        "noise_multiplier": plan.noise_multiplier,
        "max_grad_norm": plan.max_grad_norm,
        "sample_rate": plan.sample_rate,
        "expected_batch_size": plan.expected_batch_size,
        "steps": plan.steps,
        "max_participations": plan.max_participations,
        "sampling": "poisson",
        "adjacency": "add/remove one example of one client",
        "trust": plan.trust,
        "randomness": plan.randomness,
    }
    if plan.trust == "aggregate":
        unit |= {
            "client_noise_multiplier": plan.client_noise_multiplier,
            "min_cohort": plan.min_cohort,
            "colluders": plan.colluders,
        }
    return unit


def _client_unit(plan: ClientPlan, spent: Spent | None) -> dict[str, Any]:
    unit: dict[str, Any] = {"unit": "client", "accountant": plan.accountant}
    if spent is not None:
        by = _accountant(plan.accountant, [spent.server])
        unit |= {
            "epsilon_max": _epsilons([spent.server], plan.delta, by)[0],
            "epsilon_rdp_max": _epsilons([spent.server], plan.delta, "rdp")[0],
            "rounds_charged": len(spent.server),
            "accountant": by,
        }
    return unit | {
        "delta": plan.delta,
        "budget": plan.epsilon,
        "noise_multiplier": plan.noise_multiplier,
        "clip": plan.clip,
        "adaptive_clip": plan.adaptive,
        "sample_rate": plan.participation_rate,
        "expected_cohort": plan.expected_cohort,
        "max_rounds": plan.rounds,
        "sampling": "poisson" if plan.participation_rate < 1 else "all clients",
        "adjacency": "add/remove one client with all its data",
        "trust": "central",
        "randomness": plan.randomness,
    }


def _accountant(planned: str, ledgers: Sequence[list[Charge]]) -> str:
    """The one that decided on these charges: rdp as soon as it did for one ledger."""
    return (
        "rdp"
        if any(fitting_accountant(ledger, planned) == "rdp" for ledger in ledgers)
        else planned
    )


def _epsilons(
    ledgers: Sequence[list[Charge]], delta: float, accountant: str, *, alone: bool = False
) -> list[float]:
    """Epsilon of every ledger; ``alone`` counts each client's own share of the noise only."""
    histories = [
        [charge.local_segment if alone else charge.segment for charge in ledger]
        for ledger in ledgers
    ]
    return [compute_epsilon(history, delta, accountant) for history in histories]
