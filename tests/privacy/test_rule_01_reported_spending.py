"""Rule 1, in the report: what ledgers hold must not be less than what the rounds have spent."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedlite.base.errors import FedliteError
from fedlite.data.splits import load_splits
from fedlite.federation.plans import Plans
from fedlite.federation.server_app import open_server_ledger
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import Ledger
from fedlite.runs.config import Config
from fedlite.runs.spending import privacy_section, read_spending
from tests.privacy.world import begun, ledger_of

SIZES = [50] * 4


def rounds(plans: Plans, count: int, clients_trained: int = 4) -> tuple[list[Any], list[float]]:
    spent = plans.example.epsilon_after(count) if plans.example else 0.0
    return [{"clients_trained": clients_trained}] * count, [spent] * 4 if plans.example else []


def charge(ledger: Ledger, segment: tuple[float, float, int], server_rounds: range) -> None:
    begun(ledger)
    for number in server_rounds:
        made = Charge("run", number, *segment)
        assert ledger.charge(made, budget=1e9, delta=1e-5, accountant="rdp").accepted


def test_a_server_ledger_that_was_cut_short_is_noticed(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config("privacy=client", "privacy.client.accountant=rdp")
    plans = Plans.build(config.privacy, config.federation, SIZES)
    assert plans.client is not None
    charge(open_server_ledger(tmp_path, config.dataset.name), plans.client.segment, range(1, 3))
    spent = read_spending(config, plans, range(4), tmp_path, "run", *rounds(plans, 2))
    assert len(spent.server) == 2
    with pytest.raises(FedliteError, match=r"server\.ledger: holds 2 rounds of this run of 3"):
        read_spending(config, plans, range(4), tmp_path, "run", *rounds(plans, 3))


def test_one_clients_missing_charges_are_not_made_up_for_by_anothers(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config("privacy.accountant=rdp")
    plans = Plans.build(config.privacy, config.federation, SIZES)
    assert plans.example is not None
    for client_id, last in enumerate((3, 4, 2, 3)):  # a retry of client 1, a loss of client 2
        ledger = ledger_of(tmp_path, config, client_id)
        charge(ledger, plans.example.segment, range(1, last + 1))
    with pytest.raises(FedliteError, match="client 2's ledger holds less"):
        read_spending(config, plans, range(4), tmp_path, "run", *rounds(plans, 3))


def test_who_took_part_is_not_told_beside_an_amplified_client_level_claim(
    tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config(
        "privacy=both",
        "privacy.accountant=rdp",
        "privacy.client.accountant=rdp",
        "federation.fraction=0.5",
        "federation.sampling=bernoulli",
    )
    plans = Plans.build(config.privacy, config.federation, SIZES)
    assert plans.example is not None
    assert plans.client is not None
    charge(ledger_of(tmp_path, config, 0), plans.example.segment, range(1, 2))
    charge(open_server_ledger(tmp_path, config.dataset.name), plans.client.segment, range(1, 4))
    spent = read_spending(config, plans, range(4), tmp_path, "run", [], [])
    splits = load_splits(config.dataset, config.partition, 4, config.seed)
    example, client = privacy_section(config, splits, plans, spent)["units"]
    assert not {"participations_max", "epsilon_mean", "epsilon_p95"} & set(example)
    assert example["epsilon_max"] == plans.example.epsilon_after(plans.example.max_participations)
    assert client["rounds_charged"] == 3
    everybody = replace(plans, client=replace(plans.client, participation_rate=1.0))
    told, _ = privacy_section(config, splits, everybody, spent)["units"]
    assert told["participations_max"] == 1
