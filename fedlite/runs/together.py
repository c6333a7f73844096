"""What several runs spent together on the same private examples, from all of their ledgers.

Each run reports its own epsilon. Whoever chooses among runs on the same data has seen all of them,
so what counts is the composition of their histories, client by client. Runs that divide the data
differently put an example into one client each, nobody says which: there the bound is for the
client that spent most in every division.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from fedlite.base.files import read_json, read_record
from fedlite.base.options import deciding
from fedlite.federation.plans import Plans
from fedlite.privacy.accounting import Segment, compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.groups import largest_histories
from fedlite.privacy.ledger_folder import SERVER, present_ledgers, read_ledgers
from fedlite.report.ledgers import EpsilonMeasure, find_ledgers
from fedlite.report.sections import TogetherSection, TogetherUnit
from fedlite.runs.config import Config, config_from_plain
from fedlite.runs.directory import CONFIG_FILE, STATE, STATE_FILE


@dataclass(frozen=True)
class _Job:
    """One run that may have trained on private data; ``division`` says who held what in it."""

    directory: Path
    config: Config
    run_id: str
    plans: Plans
    division: str

    @property
    def private(self) -> bool:
        """Whether what it made comes with a guarantee."""
        privacy = self.config.privacy
        return privacy.private and privacy.randomness == "secure"

    def shown(self, charges: list[Charge]) -> list[Charge]:
        """A client's ``charges``; with all that the plan allows in place of the run's own where an
        amplified client-level claim counts on nobody knowing who took part how often (rule 15)."""
        example, client = self.plans.example, self.plans.client
        if example is None or client is None or client.participation_rate >= 1:
            return charges
        z, q, steps = example.segment
        most = Charge(self.run_id, 0, z, q, steps * example.max_participations)
        return [most, *(charge for charge in charges if charge.run != most.run)]


def spent_together(run_dirs: Iterable[Path]) -> TogetherSection:
    """Compose what all of these runs charged; one that never trained on private data counts as 0.

    Every ledger is read once, also where runs share them; whatever else it holds counts too.

    Raises:
        FedliteError: a damaged ledger.
    """
    jobs = [job for run_dir in run_dirs if (job := _job(run_dir)) is not None]
    clients: dict[str, dict[str, list[Charge]]] = defaultdict(lambda: defaultdict(list))
    server: list[Charge] = []
    read: set[Path] = set()
    example: list[EpsilonMeasure] = []
    client: list[EpsilonMeasure] = []
    for job in jobs:
        if not job.config.privacy.private:
            continue
        source = find_ledgers(job.directory, None)
        example += [source.example] * job.config.privacy.example_level
        client += [source.client] * job.config.privacy.client_level
        if source.directory.resolve() in read:
            continue
        read.add(source.directory.resolve())
        for name, charges in read_ledgers(source.directory).items():
            if name == SERVER:
                server += charges
            else:
                clients[job.division][name] += job.shown(charges)
    units = []
    if example:
        ledgers = [ledger for division in clients.values() for ledger in division.values()]
        histories = _histories(list(clients.values()))
        units.append(_unit("example", len(example), [*chain(*ledgers)], histories, example))
    if client:
        history = [charge.segment for charge in server]
        units.append(_unit("client", len(client), server, [history], client))
    return {
        "jobs": len(jobs),
        "not_private": sum(not job.private for job in jobs),
        "divisions": max(1, len(clients)),
        "units": units,
    }


def config_of(run_dir: Path) -> Config | None:
    """The options of a run; None where none was started."""
    file = run_dir / CONFIG_FILE
    return config_from_plain(read_json(file)) if file.is_file() else None


def _job(run_dir: Path) -> _Job | None:
    """A run whose rounds began; None where none did, or its ledgers were never begun."""
    config, file = config_of(run_dir), run_dir / STATE_FILE
    state = read_record(file, *STATE) if file.is_file() else {"stages": {}}
    plan = state["stages"].get("plan")
    if config is None or plan is None:
        return None
    if config.privacy.private and not present_ledgers(find_ledgers(run_dir, None).directory):
        return None
    division = plan.get("division") or _named_division(config)
    return _Job(run_dir, config, state["run_id"], Plans.from_facts(plan["plans"]), division)


def _named_division(config: Config) -> str:
    """All options that decide who holds what, as text: of runs that kept no digest of it."""
    dataset = deciding(config.dataset)
    for key in ("augment", "evaluate_on"):  # these move no example to another client
        del dataset[key]
    rest = (deciding(config.partition), config.federation.num_clients, config.seed)
    return json.dumps((dataset, *rest), sort_keys=True)


def _histories(divisions: Sequence[dict[str, list[Charge]]]) -> list[list[Segment]]:
    """What one example may have been charged, by all divisions in which it is somewhere.

    In one division every client has its own history. Of several, all that any client was charged
    most of each kind of step in each of them, which no combination of clients exceeds.
    """
    each = [
        [[charge.segment for charge in ledger] for ledger in division.values()]
        for division in divisions
    ]
    if len(each) == 1:
        return each[0]
    most: list[Segment] = []
    for histories in each:
        steps: dict[tuple[float, float], int] = {}
        for history in largest_histories(histories):
            for z, q, count in history:
                steps[z, q] = max(steps.get((z, q), 0), count)
        most += [(z, q, count) for (z, q), count in steps.items()]
    return [most]


def _unit(
    name: str,
    runs: int,
    charges: Sequence[Charge],
    histories: Sequence[Sequence[Segment]],
    measures: Sequence[EpsilonMeasure],
) -> TogetherUnit:
    """At the smallest delta of the runs, by RDP, as in a ledger that holds several: a later run may
    have been chosen after seeing an earlier one."""
    delta = min(measure.delta for measure in measures)
    epsilons = [compute_epsilon(history, delta, "rdp") for history in largest_histories(histories)]
    return {
        "unit": "client" if name == "client" else "example",
        "jobs": runs,
        "epsilon": max(epsilons, default=0.0),
        "delta": delta,
        "accountant": "rdp",
        "assumes_sums": any(charge.trust == "aggregate" for charge in charges),
    }
