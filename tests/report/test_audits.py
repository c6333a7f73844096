"""What is said about audits: a bound above its claim is never passed over."""

import copy
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedlite.base.errors import FedliteError
from fedlite.report.audit_sections import AuditsSection, CheckEntry
from fedlite.report.audits import audits_markdown, bounds, conclude, violations


def attack(bound: float) -> dict[str, Any]:
    return {"auc": 0.55, "tpr": {"0.01": 0.02, "0.001": 0.004}, "lower_bound": bound}


AUDITS: dict[str, Any] = {
    "seconds": {"dirac": 1.0, "membership": 200.0},
    "dirac": {
        "example": {"claimed_epsilon": 2.0, "lower_bound": 0.5},
        "client": {"claimed_epsilon": 1.0, "lower_bound": 0.4},
    },
    "membership": {
        "claimed_epsilon": 2.0,
        "attacks": {"student": attack(0.1), "compressed": attack(0.2), "control": attack(4.0)},
    },
    "inversion": {"cosine": {"plain": 0.99, "noised": 0.02}},
}


def changed(*path: str, value: float | None) -> dict[str, Any]:
    audits = copy.deepcopy(AUDITS)
    inner = audits
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return audits


def test_the_control_is_no_violation_whatever_it_shows() -> None:
    assert violations(AUDITS) == []
    assert len(bounds(AUDITS)) == 4


@pytest.mark.parametrize(
    "path",
    [
        ("dirac", "example", "lower_bound"),
        ("dirac", "client", "lower_bound"),
        ("membership", "attacks", "student", "lower_bound"),
        ("membership", "attacks", "compressed", "lower_bound"),
    ],
)
def test_every_bound_above_its_claim_is_said_everywhere(path: tuple[str, ...]) -> None:
    audits = changed(*path, value=3.0)
    assert len(violations(audits)) == 1
    assert audits_markdown(audits).startswith("**AUDIT FAILED**: ")
    assert "| 3.00 | FAILED |" in audits_markdown(audits)
    console = Console(file=io.StringIO(), width=100)
    with pytest.raises(FedliteError, match=r"epsilon is at least 3\.00, claimed were"):
        conclude(audits, Path("run"), console)


def test_without_a_claim_there_is_nothing_to_violate() -> None:
    audits = changed("dirac", "example", "claimed_epsilon", value=None)
    audits["dirac"]["example"]["lower_bound"] = 5.0
    assert violations(audits) == []
    assert "| Canaries, one example | none | 5.00 | no claim |" in audits_markdown(audits)


def test_parts_that_did_not_run_are_not_spoken_of() -> None:
    text = audits_markdown({"seconds": {}, "inversion": AUDITS["inversion"]})
    assert "plain 0.99, noised 0.02" in text
    assert "Membership" not in text
    assert "audit_inversion.png" in text
    assert "audit_dirac" not in text


def test_what_is_printed_fits_eighty_columns() -> None:
    console = Console(file=io.StringIO(), width=80)
    conclude(AUDITS, Path("run"), console)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "Compressed student" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_check_that_was_not_tested_says_so_and_fails_nothing() -> None:
    check: CheckEntry = {
        "name": "noise",
        "measured": 1.0,
        "planned": 1.0,
        "p_value": 1.0,
        "passed": True,
        "tested": False,
    }
    entry = AUDITS["dirac"]["example"]
    audits: AuditsSection = {"seconds": {}, "dirac": {"example": {**entry, "checks": [check]}}}
    assert "| Canaries, one example | noise | - | 1 | - | not tested |" in audits_markdown(audits)
    assert not any("noise" in line for line in violations(audits))
