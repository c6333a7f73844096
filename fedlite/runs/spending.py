"""What a run spent, from its ledgers, as the ``privacy`` section of the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedlite.base.errors import FedliteError
from fedlite.data.splits import Splits
from fedlite.federation.ledgers import data_set_ids
from fedlite.federation.plans import Plans
from fedlite.federation.server_app import open_server_ledger
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.ledger import fitting_accountant, segments
from fedlite.privacy.ledger_folder import read_ledgers
from fedlite.privacy.plan import PrivacyPlan
from fedlite.report.audit_sections import (
    AccountingEntry,
    AuditsSection,
    CanaryEntry,
    UnitName,
)
from fedlite.report.schema import (
    AuditedBound,
    ClientUnit,
    EpsilonsByClient,
    EpsilonsOfReleases,
    ExampleUnit,
    NoiseShares,
    PrivacySection,
    RoundEntry,
)
from fedlite.report.write import summed_up
from fedlite.runs.config import Config


@dataclass(frozen=True)
class Spent:
    """Every charge that the ledgers of a run hold, other runs' on the same ledgers included."""

    clients: list[list[Charge]]
    server: list[Charge]


def read_spending(
    config: Config,
    plans: Plans,
    numbers: Sequence[int],
    directory: Path,
    run_id: str,
    history: Sequence[RoundEntry],
    told: Sequence[float],
) -> Spent:
    """Read all ledgers of a run, and compare them with the rounds in its ``history`` and with the
    example-level epsilons that its clients, whose ``numbers`` among all these are, have ``told``
    last.

    Raises:
        FedliteError: a damaged ledger, or one that holds less than the rounds have spent.
    """
    clients, server = [], []
    if plans.example:
        found = read_ledgers(directory)
        ids = data_set_ids(config.privacy, config.dataset.name, numbers)
        clients = [found.get(data_set, []) for data_set in ids]
        _check_all_charged(clients, plans.example, run_id, history, told, directory)
    if plans.client:
        ledger = open_server_ledger(directory, config.dataset.name)
        server = ledger.entries()
        charged = len({charge.round for charge in server if charge.run == run_id})
        if charged < len(history):
            raise FedliteError(
                f"{ledger.path}: holds {charged} rounds of this run of {len(history)} released;"
                " restore it, nothing is trained or reported without it"
            )
    return Spent(clients, server)


def _check_all_charged(
    clients: Sequence[list[Charge]],
    plan: PrivacyPlan,
    run_id: str,
    history: Sequence[RoundEntry],
    told: Sequence[float],
    directory: Path,
) -> None:
    charged = sum(charge.run == run_id for ledger in clients for charge in ledger)
    trained = sum(entry["clients_trained"] for entry in history)
    by = _accountant(plan.accountant, clients)
    held = _epsilons(clients, plan.delta, by, trust=plan.trust)
    lacking = [i for i, spent in enumerate(told) if held[i] < spent * (1 - 1e-6)]
    if charged < trained or lacking:
        which = f"client {lacking[0]}'s" if lacking else "some client's"
        raise FedliteError(
            f"{directory}: {which} ledger holds less than its rounds have spent ({charged} charges"
            f" of this run, {trained} times trained); restore the ledgers, nothing is trained or"
            " reported without them"
        )


def privacy_section(
    config: Config,
    splits: Splits,
    plans: Plans,
    spent: Spent | None,
    audits: AuditsSection | None = None,
) -> PrivacySection:
    """The ``privacy`` section (docs/report.md): the plans, and with ``spent`` what was spent."""
    audits = audits or {}
    units: list[ExampleUnit | ClientUnit] = []
    if plans.example:
        example = _example_unit(plans.example, spent, _audited("example", audits))
        if plans.client and plans.client.participation_rate < 1:
            _hide_participation(example, plans.example)
        units.append(example)
    if plans.client:
        units.append(_client_unit(plans.client, spent, _audited("client", audits)))
    return {
        "private": bool(units),
        "randomness": config.privacy.randomness,
        "protects": splits.task.example,
        "units": units,
    }


def _hide_participation(unit: ExampleUnit, plan: PrivacyPlan) -> None:
    """Beside an amplified client-level claim, who took part how often is a secret (rule 15): the
    most that the plan allows stands for what was spent."""
    unit.pop("epsilon_mean", None)
    unit.pop("epsilon_p95", None)
    unit.pop("participations_max", None)
    most = plan.max_participations
    if "epsilon_max" in unit:
        unit["epsilon_max"] = max(unit["epsilon_max"], plan.epsilon_after(most))
    if "epsilon_rdp_max" in unit:
        unit["epsilon_rdp_max"] = max(unit["epsilon_rdp_max"], plan.epsilon_after(most, "rdp"))


def _audited(name: UnitName, audits: AuditsSection) -> AuditedBound:
    """What an audit found for a unit: a bound means something at its own delta and claim only."""
    found = audits.get("dirac", {}).get(name)
    if found is None:
        return {}
    bound: AuditedBound = {
        "audited_epsilon": found["lower_bound"],
        "audited_claim": found["claimed_epsilon"],
        "audited_delta": found["delta"],
    }
    student = audits.get("canaries", {}).get(name)
    attacked = [entry for entry in (found, student) if entry is not None and "attacked" in entry]
    if attacked:
        bound["audited_objects"] = "; ".join(entry["attacked"] for entry in attacked)
        bound["audited_verdict"] = _verdict(attacked, audits.get("accounting", {}).get(name))
    return bound


def _verdict(attacked: Sequence[CanaryEntry], accounting: AccountingEntry | None) -> str:
    """What refutes the claim, or that nothing did."""
    refuted = [
        f"a lower bound of {entry['lower_bound']:.2f}"
        for entry in attacked
        if (claim := entry["claimed_epsilon"]) is not None and entry["lower_bound"] > claim
    ]
    failed = {
        one["name"] for entry in attacked for one in entry.get("checks", []) if not one["passed"]
    }
    refuted += [f"the check of {name}" for name in sorted(failed)]
    if accounting is not None and not accounting["passed"]:
        refuted.append("the charges, which cost more")
    return f"refuted by {', '.join(refuted)}" if refuted else "nothing refutes the claim"


def _example_unit(plan: PrivacyPlan, spent: Spent | None, audited: AuditedBound) -> ExampleUnit:
    by, epsilons, shares = plan.accountant, EpsilonsByClient(), NoiseShares()
    if spent is not None:
        by = _accountant(plan.accountant, spent.clients)
        epsilons = _epsilons_by_client(plan, spent.clients, by)
    if plan.trust == "aggregate":
        shares = {
            "client_noise_multiplier": plan.client_noise_multiplier,
            "min_cohort": plan.min_cohort,
            "colluders": plan.colluders,
        }
    return {
        "unit": "example",
        "accountant": by,
        **epsilons,
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
        **shares,
        **audited,
    }


def _epsilons_by_client(
    plan: PrivacyPlan, ledgers: Sequence[list[Charge]], accountant: str
) -> EpsilonsByClient:
    epsilons = _epsilons(ledgers, plan.delta, accountant, trust=plan.trust)
    summary = summed_up(epsilons)
    found: EpsilonsByClient = {
        "epsilon_max": summary["max"],
        "epsilon_mean": summary["mean"],
        "epsilon_p95": summary["p95"],
        "epsilon_rdp_max": max(_epsilons(ledgers, plan.delta, "rdp", trust=plan.trust)),
        "participations_max": max(map(len, ledgers)),
    }
    if plan.trust == "aggregate":
        local = _epsilons(ledgers, plan.delta, accountant, trust="local")
        found["local_epsilon_max"] = max(local)
    return found


def _client_unit(plan: ClientPlan, spent: Spent | None, audited: AuditedBound) -> ClientUnit:
    by, epsilons = plan.accountant, EpsilonsOfReleases()
    if spent is not None:
        by = _accountant(plan.accountant, [spent.server])
        epsilons = {
            "epsilon_max": _epsilons([spent.server], plan.delta, by, trust="central")[0],
            "epsilon_rdp_max": _epsilons([spent.server], plan.delta, "rdp", trust="central")[0],
            "rounds_charged": len(spent.server),
        }
    return {
        "unit": "client",
        "accountant": by,
        **epsilons,
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
        **audited,
    }


def _accountant(planned: str, ledgers: Sequence[list[Charge]]) -> str:
    """The one that decided on these charges: rdp as soon as it did for one ledger."""
    return (
        "rdp"
        if any(fitting_accountant(ledger, planned) == "rdp" for ledger in ledgers)
        else planned
    )


def _epsilons(
    ledgers: Sequence[list[Charge]], delta: float, accountant: str, *, trust: str
) -> list[float]:
    """Epsilon of every ledger as a claim under ``trust`` must count it."""
    return [compute_epsilon(segments(ledger, trust), delta, accountant) for ledger in ledgers]
