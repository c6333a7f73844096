"""The rounds of a run as its state holds them, also as they were before: with the epsilons of every
client in every round."""

from typing import Any, cast

from fedlite.report.schema import RoundEntry
from fedlite.report.write import epsilons_of_round
from fedlite.runs.facts import FederateFacts


def rounds_of(facts: FederateFacts) -> list[RoundEntry]:
    """Every finished round."""
    return [_entry(dict(entry)) for entry in facts["history"]]


def last_epsilons(facts: FederateFacts) -> list[float]:
    """The example-level epsilons after the last round, in client order; empty without that unit."""
    if "epsilons" in facts:
        return facts["epsilons"]
    entries = cast(list[dict[str, Any]], facts["history"])
    return list(entries[-1]["epsilons"]) if entries else []


def _entry(values: dict[str, Any]) -> RoundEntry:
    if "epsilons" in values:
        values["epsilon"] = epsilons_of_round(values.pop("epsilons"))
    return cast(RoundEntry, values)
