"""What several runs spent together on the same private examples, from all of their ledgers.

Each run reports its own epsilon. Whoever chooses among runs on the same data has seen all of them,
so what counts is the composition of their histories, client by client. Runs that divide the data
differently put an example into one client each, nobody says which: there the bound is for the
client that spent most in every division.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from fedlite.base.files import read_json
from fedlite.base.options import deciding
from fedlite.federation.plans import Plans
from fedlite.privacy.accounting import Segment, compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.groups import largest_histories
from fedlite.privacy.ledger import SERVER_LEDGER, Ledger, data_set_of
from fedlite.report.ledgers import EpsilonMeasure, find_ledgers
from fedlite.report.sections import TogetherSection, TogetherUnit
from fedlite.runs.config import Config, config_from_plain
from fedlite.runs.directory import CONFIG_FILE, STATE_FILE


def spent_together(run_dirs: Iterable[Path]) -> TogetherSection:
    """Compose what all of these runs charged; one that never trained on private data counts as 0.

    Every ledger is read once, also where runs share them; whatever else it holds counts too.

    Raises:
        FedliteError: a damaged ledger.
    """
    clients: dict[str, dict[str, list[Charge]]] = defaultdict(lambda: defaultdict(list))
    server: list[Charge] = []
    read: set[Path] = set()
    trained, not_private = 0, 0
    example: list[EpsilonMeasure] = []
    client: list[EpsilonMeasure] = []
    for run_dir in run_dirs:
        config = config_of(run_dir)
        if config is None or not _trained(run_dir, config):
            continue
        trained += 1
        not_private += not config.privacy.private or config.privacy.randomness != "secure"
        if not config.privacy.private:
            continue
        source = find_ledgers(run_dir, None)
        example += [source.example] * config.privacy.example_level
        client += [source.client] * config.privacy.client_level
        for path in sorted(source.directory.glob("*.ledger")):
            if path.resolve() in read:
                continue
            read.add(path.resolve())
            charges = Ledger(path, data_set_of(path)).entries()
            if path.name == SERVER_LEDGER:
                server += charges
            else:
                shown = _without_participation(charges, run_dir)
                clients[division_of(config)][path.stem] += shown
    units = []
    if example:
        ledgers = [ledger for division in clients.values() for ledger in division.values()]
        histories = _histories(list(clients.values()))
        units.append(_unit("example", len(example), [*chain(*ledgers)], histories, example))
    if client:
        history = [charge.segment for charge in server]
        units.append(_unit("client", len(client), server, [history], client))
    return {
        "jobs": trained,
        "not_private": not_private,
        "divisions": max(1, len(clients)),
        "units": units,
    }


def config_of(run_dir: Path) -> Config | None:
    """The options of a run; None where none was started."""
    file = run_dir / CONFIG_FILE
    return config_from_plain(read_json(file)) if file.is_file() else None


def _trained(run_dir: Path, config: Config) -> bool:
    """Whether a run may have trained on private data: its rounds began, or its ledgers exist."""
    state = run_dir / STATE_FILE
    planned = state.is_file() and "plan" in read_json(state)["stages"]
    if not config.privacy.private:
        return planned
    return planned and any(find_ledgers(run_dir, None).directory.glob("*.ledger"))


def division_of(config: Config) -> str:
    """All that decides which client of a simulation holds which example, as text."""
    dataset = deciding(config.dataset)
    for key in ("augment", "evaluate_on"):  # these move no example to another client
        del dataset[key]
    rest = (deciding(config.partition), config.federation.num_clients, config.seed)
    return json.dumps((dataset, *rest), sort_keys=True)


def _without_participation(charges: list[Charge], run_dir: Path) -> list[Charge]:
    """``charges``; with all that the plan allows in place of the run's own where an amplified
    client-level claim counts on nobody knowing who took part how often (rule 15)."""
    state = read_json(run_dir / STATE_FILE)
    plans = Plans.from_facts(state["stages"]["plan"]["plans"])
    if plans.example is None or plans.client is None or plans.client.participation_rate >= 1:
        return charges
    z, q, steps = plans.example.segment
    most = Charge(state["run_id"], 0, z, q, steps * plans.example.max_participations)
    return [most, *(charge for charge in charges if charge.run != most.run)]


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
