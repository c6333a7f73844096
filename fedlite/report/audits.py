"""What audits mean: each lower bound against its claim, in the terminal and in report.md."""

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from fedlite.base.errors import FedliteError
from fedlite.report.audit_sections import (
    Attacked,
    AuditsSection,
    CheckEntry,
    CheckName,
    InversionEntry,
)
from fedlite.report.table import plain_table
from fedlite.report.words import human_seconds

ATTACKED: dict[Attacked, str] = {
    "student": "Student",
    "compressed": "Compressed student",
    "control": "Control: the same without privacy",
}
_CHECKED: dict[CheckName, str] = {
    "noise": "the noise multiplier of what was released is",
    "fresh noise": "the largest correlation of two releases' noise is",
    "neighbours": "the largest correlation of neighbouring coordinates' noise is",
    "shape": "the excess kurtosis of the noise is",
    "push": "the push of an example or client in the data, against the planned one, is",
    "evenness": "the spread of pushes over examples or clients, against the planned one, is",
    "sampling": "the spread of how many are sampled, against that of Poisson sampling, is",
    "counting": "the most by which a client counts more or less often than it was asked is",
    "spending": "the epsilon that is reported after the audit's own rounds is",
}
_CAPTIONS = {
    "dirac": ("audit_dirac", "Scores of canary examples"),
    "dirac_client": ("audit_dirac_client", "Scores of canary clients"),
    "membership": ("audit_membership", "Membership inference: true against false positives"),
    "inversion": ("audit_inversion", "Gradient inversion of a planted public example"),
}
_INTRODUCTION = (
    "Attacks on this run's code at this run's plan: Flower messages to the clients' own train"
    " handler (policy, ledger, sampling, loss, gradient engine, noise, sum protocol) and the"
    " server's own release of what came back. Each lower bound of epsilon is what an attack has"
    " shown; one above the claim would refute it. A low one proves nothing: attacks see less than"
    " a guarantee covers. Each check compares what ran with what was charged. Bounds and checks"
    " share one error rate: all of them together are wrong in at most 5% of the audits of correct"
    " code. They used test examples, a planted public example and invented canaries, never a"
    " client's data, and charged ledgers of the audit's own, which are gone."
)
_UNSEEN = (
    "Not seen: how the secret key of the noise is kept, what else a device sends or a server keeps,"
    " layers that see something else than one example (they are tried before training), and what"
    " runs on devices whose code is not this one."
)
_PLACES: tuple[tuple[Literal["canaries", "dirac"], str], ...] = (
    ("canaries", "Canaries in the student"),
    ("dirac", "Canaries"),
)


def bounds(audits: AuditsSection) -> list[tuple[str, float | None, float]]:
    """Name, claimed epsilon (None: no claim) and lower bound of each attack but the control."""
    rows: list[tuple[str, float | None, float]] = [
        (f"{label}, one {unit}", found["claimed_epsilon"], found["lower_bound"])
        for key, label in _PLACES
        for unit, found in audits.get(key, {}).items()
    ]
    rows += [
        (f"Accounting, one {unit}", counted["claimed_epsilon"], counted["lower_bound"])
        for unit, counted in audits.get("accounting", {}).items()
    ]
    if membership := audits.get("membership"):
        for name, attack in membership["attacks"].items():
            if name != "control":
                label = f"Membership, {ATTACKED[name].lower()}"
                rows.append((label, membership["claimed_epsilon"], attack["lower_bound"]))
    return rows


def checks(audits: AuditsSection) -> list[tuple[str, CheckEntry]]:
    """Name of the attack, and each test of what ran against the plan."""
    return [
        (f"{label}, one {unit}", check)
        for key, label in _PLACES
        for unit, found in audits.get(key, {}).items()
        for check in found.get("checks", [])
    ]


def violations(audits: AuditsSection) -> list[str]:
    """One line for every lower bound that lies above its claim, and every check that failed."""
    refuted = [
        f"{name.lower()}: epsilon is at least {bound:.2f}, claimed were {claimed:.2f}"
        for name, claimed, bound in bounds(audits)
        if claimed is not None and bound > claimed
    ]
    other = [
        f"{name.lower()}: {_CHECKED[check['name']]} {check['measured']:.4g}, by the plan"
        f" {check['planned']:.4g}"
        for name, check in checks(audits)
        if not check["passed"]
    ]
    return refuted + other


def _verdict(claimed: float | None, bound: float) -> str:
    if claimed is None:
        return "no claim"
    return "FAILED" if bound > claimed else "holds"


def _claim(claimed: float | None) -> str:
    return "none" if claimed is None else f"{claimed:.2f}"


def _attack_rows(audits: AuditsSection) -> list[tuple[str, ...]]:
    """Name, AUC, and true positives at each false-positive rate of every membership attack."""
    attacks = audits.get("membership", {}).get("attacks", {})
    return [
        (ATTACKED[name], f"{one['auc']:.3f}", *(f"{rate:.1%}" for rate in one["tpr"].values()))
        for name, one in attacks.items()
    ]


def _check_row(name: str, check: CheckEntry) -> tuple[str, ...]:
    if not check.get("tested", True):
        return (name, check["name"], "-", f"{check['planned']:.4g}", "-", "not tested")
    return (
        name,
        check["name"],
        f"{check['measured']:.4g}",
        f"{check['planned']:.4g}",
        f"{check['p_value']:.2g}",
        "holds" if check["passed"] else "FAILED",
    )


def _attacked(audits: AuditsSection) -> list[str]:
    """What the canaries attacked, and what no attack here can see."""
    found = {
        label: one["attacked"]
        for key, label in _PLACES
        for one in audits.get(key, {}).values()
        if "attacked" in one
    }
    if not found:
        return []
    text = "; ".join(f"{label}: {words}" for label, words in found.items())
    return [f"Attacked: {text}. {_UNSEEN}"]


def _inversion_text(inversion: InversionEntry) -> str:
    cosine = inversion["cosine"]
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in cosine.items())
    return f"Gradient inversion, similarity of example and reconstruction: {shown}."


def audits_markdown(audits: AuditsSection) -> str:
    """The audits of a run for report.md.

    Args:
        audits: the content of ``audits.json``; may lack any part.
    """
    parts = [f"**AUDIT FAILED**: {line}." for line in violations(audits)]
    parts.append(_INTRODUCTION)
    rows = [
        f"| {name} | {_claim(claimed)} | {bound:.2f} | {_verdict(claimed, bound)} |"
        for name, claimed, bound in bounds(audits)
    ]
    if rows:
        head = ["| Audit | Epsilon claimed | At least | Result |", "| :-- | --: | --: | :-- |"]
        parts.append("\n".join([*head, *rows]))
    if lines := [_check_row(name, check) for name, check in checks(audits)]:
        head = [
            "| Check of what ran | | Measured | By the plan | p-value | Result |",
            "| :-- | :-- | --: | --: | --: | :-- |",
        ]
        parts.append("\n".join([*head, *(f"| {' | '.join(line)} |" for line in lines)]))
    parts += _attacked(audits)
    if attacks := _attack_rows(audits):
        head = [
            "| Membership inference (LiRA) against | AUC | True at 1% false | At 0.1% false |",
            "| :-- | --: | --: | --: |",
        ]
        parts.append("\n".join([*head, *(f"| {' | '.join(row)} |" for row in attacks)]))
    if inversion := audits.get("inversion"):
        parts.append(_inversion_text(inversion))
    drawn: list[str] = [name for name in ("membership", "inversion") if name in audits]
    drawn += ["dirac" if unit == "example" else f"dirac_{unit}" for unit in audits.get("dirac", {})]
    for name, (file, caption) in _CAPTIONS.items():
        if name in drawn:
            parts.append(f"![{caption}](pictures/{file}.png)")
    return "\n\n".join(parts)


def print_audits(audits: AuditsSection, console: Console) -> None:
    """Print what the audits found as small tables, a failure in red."""
    table = plain_table("Audits: what an attacker could show, against what is claimed")
    for column in ("Audit", "Epsilon claimed", "At least", "Result"):
        table.add_column(column, justify="left" if column in ("Audit", "Result") else "right")
    for name, claimed, bound in bounds(audits):
        verdict = _verdict(claimed, bound)
        style = {"FAILED": "bold red", "holds": "green"}.get(verdict, "")
        table.add_row(name, _claim(claimed), f"{bound:.2f}", Text(verdict, style=style))
    console.print()
    console.print(table)
    if lines := [_check_row(name, check) for name, check in checks(audits)]:
        table = plain_table("What ran, against what was charged")
        for column in ("Attack", "Check", "Measured", "By the plan", "p-value", "Result"):
            left = column in ("Attack", "Check", "Result")
            table.add_column(column, justify="left" if left else "right")
        for *cells, verdict in lines:
            style = {"FAILED": "bold red", "holds": "green"}.get(verdict, "")
            table.add_row(*cells, Text(verdict, style=style))
        console.print()
        console.print(table)
    if attacks := _attack_rows(audits):
        table = plain_table("Membership inference: right guesses of members")
        for column in ("Attacked", "AUC", "at 1% false", "at 0.1% false"):
            table.add_column(column, justify="left" if column == "Attacked" else "right")
        for row in attacks:
            table.add_row(*row)
        console.print()
        console.print(table)
    if inversion := audits.get("inversion"):
        console.print()
        console.print(Text(_inversion_text(inversion)))
    took = ", ".join(f"{name} {human_seconds(spent)}" for name, spent in audits["seconds"].items())
    console.print(Text(f"Took: {took}."))
    for line in violations(audits):
        console.print(Text(f"AUDIT FAILED: {line}", style="bold red"), soft_wrap=True)


def conclude(audits: AuditsSection, directory: Path, console: Console) -> None:
    """Print what the audits of the run in ``directory`` found, and refuse it if they refuted it.

    Raises:
        FedliteError: a lower bound lies above its claim.
    """
    print_audits(audits, console)
    console.print()
    console.print(f"report    {directory / 'report.md'}", soft_wrap=True)
    console.print(f"pictures  {directory / 'pictures'}/audit_*.png", soft_wrap=True)
    if found := violations(audits):
        raise FedliteError(
            f"AUDIT FAILED: {'; '.join(found)}; the privacy claim of this run does not hold"
        )
