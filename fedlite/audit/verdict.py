"""What audits mean: each lower bound against its claim, for the terminal and the exit code."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from fedlite.audit.membership import CONTROL
from fedlite.audit.pictures import ATTACKED
from fedlite.errors import FedliteError
from fedlite.tracking.table import plain_table
from fedlite.tracking.words import human_seconds


def violations(results: dict[str, Any]) -> list[str]:
    """One line for every lower bound that lies above its claim."""
    lines = []
    for name, claimed, bound in _bounds(results):
        if claimed is not None and bound > claimed:
            lines.append(f"{name}: epsilon is at least {bound:.2f}, claimed were {claimed:.2f}")
    return lines


def _bounds(results: dict[str, Any]) -> list[tuple[str, float | None, float]]:
    """Name, claimed epsilon and lower bound of every attack but the control."""
    rows = [
        (f"canaries, one {unit}", record["claimed_epsilon"], record["lower_bound"])
        for unit, record in results.get("dirac", {}).items()
    ]
    audit = results.get("membership", {"attacks": {}})
    for name, record in audit["attacks"].items():
        if name != CONTROL:
            label = f"membership, {ATTACKED[name][0].lower()}"
            rows.append((label, audit["claimed_epsilon"], record["lower_bound"]))
    return rows


def print_audits(results: dict[str, Any], console: Console) -> None:
    """Print what the audits found as small tables, with a failure in red."""
    table = plain_table("Audits: what an attacker could show, against what is claimed")
    for column in ("Audit", "Epsilon claimed", "At least (95%)", "Result"):
        table.add_column(column, justify="left" if column in ("Audit", "Result") else "right")
    for name, claimed, bound in _bounds(results):
        if claimed is None:
            table.add_row(name, "none", f"{bound:.2f}", "no claim")
            continue
        failed = bound > claimed
        result = Text("FAILED", style="bold red") if failed else Text("holds", style="green")
        table.add_row(name, f"{claimed:.2f}", f"{bound:.2f}", result)
    console.print()
    console.print(table)
    for name, record in results.get("membership", {"attacks": {}})["attacks"].items():
        label = ATTACKED[name][0]
        rates = ", ".join(f"{tpr:.1%} at {float(f):.1%}" for f, tpr in record["tpr"].items())
        console.print(f"Membership, {label}: AUC {record['auc']:.3f}; true positives {rates} false")
    if "inversion" in results:
        cosine = results["inversion"]["cosine"]
        shown = ", ".join(f"{k.replace('_', ' ')} {v:.2f}" for k, v in cosine.items())
        console.print(f"Inversion, similarity of example and reconstruction: {shown}")
    for line in violations(results):
        console.print(Text(f"AUDIT FAILED: {line}", style="bold red"), soft_wrap=True)
    took = ", ".join(f"{name} {human_seconds(spent)}" for name, spent in results["seconds"].items())
    console.print(f"Took: {took}")


def conclude(results: dict[str, Any], directory: Path, console: Console) -> None:
    """Print what the audits of the run in ``directory`` found, and refuse it if they refuted it.

    Raises:
        FedliteError: a lower bound lies above its claim.
    """
    print_audits(results, console)
    console.print()
    console.print(f"report    {directory / 'report.md'}", soft_wrap=True)
    console.print(f"pictures  {directory / 'pictures'}/audit_*.png", soft_wrap=True)
    if found := violations(results):
        raise FedliteError(
            f"AUDIT FAILED: {'; '.join(found)}; the privacy claim of this run does not hold"
        )
