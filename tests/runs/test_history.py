"""The rounds in a run's state: as large for many clients as for few; those of before are read."""

import json
from dataclasses import replace
from typing import Any, cast

from fedlite.report.write import epsilons_of_round, round_entry
from fedlite.runs.facts import FederateFacts
from fedlite.runs.history import last_epsilons, rounds_of
from tests.report.runs import round_record


def test_a_round_is_as_large_for_ten_thousand_clients_as_for_ten() -> None:
    sizes = {
        len(json.dumps(round_entry(replace(round_record(3), epsilons=[0.5, 2.0] * clients))))
        for clients in (5, 5_000)
    }
    assert len(sizes) == 1


def test_epsilons_are_summed_up() -> None:
    found = epsilons_of_round([1.0, 2.0, 3.0, 10.0])
    assert found is not None
    assert (found["min"], found["mean"], found["max"]) == (1.0, 4.0, 10.0)
    assert 3.0 < found["p95"] < 10.0
    assert epsilons_of_round([]) is None


def facts(**values: Any) -> FederateFacts:
    return cast(FederateFacts, {"sha256": "", "stopped": "", "evaluation": None, **values})


def test_rounds_of_before_hold_the_epsilons_of_all_clients() -> None:
    records = [round_record(1), round_record(2)]
    entries = [round_entry(record) for record in records]
    now = facts(history=entries, epsilons=records[-1].epsilons)
    old: list[dict[str, Any]] = []
    for entry, record in zip(entries, records, strict=True):
        values: dict[str, Any] = {**entry, "epsilons": record.epsilons}
        del values["epsilon"]
        old.append(values)
    before = facts(history=old)
    assert rounds_of(before) == rounds_of(now) == entries
    assert last_epsilons(before) == last_epsilons(now) == records[-1].epsilons
    assert "epsilons" in old[0], "the state itself stays as it is"
    assert last_epsilons(facts(history=[])) == []
