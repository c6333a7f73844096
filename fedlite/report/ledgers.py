"""``fedlite ledger``: what was spent, by client, run and round. Reads files, writes none."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedlite.base.class_folders import one_run
from fedlite.base.errors import FedliteError, UsageError
from fedlite.base.files import read_record
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger_folder import SERVER, present_ledgers, read_ledgers
from fedlite.report.table import plain_table
from fedlite.report.words import NOT_PRIVATE, epsilon_text

RUN_ID_SHOWN = 7  # characters
EXAMPLE_DELTA, CLIENT_DELTA = 1e-5, 1e-3  # where no run says another


@dataclass(frozen=True)
class EpsilonMeasure:
    """How spending is expressed: at which delta, and by which tight accountant beside RDP."""

    delta: float
    accountant: str

    def of(self, history: Sequence[Charge]) -> tuple[float, float]:
        """Epsilon by RDP and by the tight accountant."""
        segments = [charge.segment for charge in history]
        return (
            compute_epsilon(segments, self.delta, "rdp"),
            compute_epsilon(segments, self.delta, self.accountant),
        )

    def local(self, history: Sequence[Charge]) -> float:
        """Epsilon (RDP) towards those who see the client's own updates."""
        segments = [charge.local_segment for charge in history]
        return compute_epsilon(segments, self.delta, "rdp")


@dataclass(frozen=True)
class Source:
    """Where the ledgers of a run or a directory lie, and how to measure them."""

    directory: Path
    example: EpsilonMeasure
    client: EpsilonMeasure
    deterministic: bool = False


@dataclass(frozen=True)
class RunSpending:
    """What one run charged to one ledger; ``epsilons`` are the whole ledger's up to then."""

    run: str
    charges: int
    steps: int
    noise: str
    rate: str
    trust: str
    epsilons: tuple[float, float]


def show_ledgers(
    directory: Path, console: Console, *, client: str | None = None, delta: float | None = None
) -> None:
    """Print the spending of all clients, or of one of them charge by charge.

    Args:
        directory: a run directory, or one of ledgers.
        client: the number of a simulated client, or a data set id.
        delta: instead of the run's own.

    Raises:
        UsageError: no such directory or client, or a delta that is none.
        FedliteError: no ledgers there, or one that is missing, damaged or of other data.
    """
    if delta is not None and not 0 < delta < 1:
        raise UsageError(f"delta={delta:g}: must be above 0 and below 1")
    source = find_ledgers(directory, delta)

    def wanted(name: str) -> bool:
        return client is None or client in (name, _number(name), _unpadded(name))

    ledgers = read_ledgers(source.directory, wanted)
    if not ledgers and present_ledgers(source.directory):
        raise UsageError(f"client={client}: no ledger of it in {source.directory}")
    if not ledgers:
        if not (directory / "config.json").is_file():
            raise UsageError(
                f"{directory}: no ledger there; give a directory of a run or of ledgers"
            )
        raise FedliteError(f"{source.directory}: no ledger there; nothing was charged")
    server = ledgers.pop(SERVER, None)
    if source.deterministic:
        console.print(Text(f"{NOT_PRIVATE}: deterministic randomness", style="bold red"))
    if client is not None:
        for name, charges in ledgers.items():
            _print_charges(name, charges, source.example, console)
        return
    if ledgers:
        _print_clients(ledgers, source.example, console)
    if server is not None:
        console.print()
        _print_server(server, source.client, console)


def find_ledgers(directory: Path, delta: float | None) -> Source:
    """The ledgers of a run directory (which may name another place), or those in ``directory``.

    Raises:
        UsageError: no such directory.
        FedliteError: the run is not private, or its files are damaged.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such directory; give one of a run or of ledgers")
    one_run(directory)
    config_file, state_file = directory / "config.json", directory / "state.json"
    if not config_file.is_file():
        return Source(
            directory,
            EpsilonMeasure(delta or EXAMPLE_DELTA, "prv"),
            EpsilonMeasure(delta or CLIENT_DELTA, "pld"),
        )
    privacy: dict[str, Any] = read_record(config_file, "privacy")["privacy"]
    if privacy["unit"] == "none":
        raise FedliteError(f"{directory}: this run is not private (privacy=none), nothing to spend")
    stages = read_record(state_file, "stages")["stages"] if state_file.is_file() else {}
    client_plan = (stages.get("plan", {}).get("plans") or {}).get("client") or {}
    elsewhere = privacy.get("ledger_dir")
    return Source(
        Path(elsewhere) if elsewhere else directory / "ledgers",
        EpsilonMeasure(delta or privacy["delta"], _tight(privacy["accountant"], "prv")),
        EpsilonMeasure(
            delta or client_plan.get("delta", CLIENT_DELTA),
            _tight(client_plan.get("accountant", "pld"), "pld"),
        ),
        deterministic=privacy["randomness"] == "deterministic",
    )


def summarise(charges: Sequence[Charge], measure: EpsilonMeasure) -> list[RunSpending]:
    """One entry for each run in the order in which they began."""
    runs = list(dict.fromkeys(charge.run for charge in charges))
    spent: list[Charge] = []
    summary = []
    for run in runs:
        own = [charge for charge in charges if charge.run == run]
        spent += own
        summary.append(
            RunSpending(
                run=run,
                charges=len(own),
                steps=sum(charge.steps for charge in own),
                noise=_range([charge.noise_multiplier for charge in own]),
                rate=_range([charge.sample_rate for charge in own]),
                trust=" ".join(sorted({charge.trust for charge in own})),
                epsilons=measure.of(spent),
            )
        )
    return summary


def _print_clients(
    ledgers: dict[str, list[Charge]], measure: EpsilonMeasure, console: Console
) -> None:
    """Equal spending in one row, the largest first."""
    groups: dict[tuple[RunSpending, ...], list[str]] = {}
    for name, charges in ledgers.items():
        groups.setdefault(tuple(summarise(charges, measure)), []).append(name)
    spent = {rows: rows[-1].epsilons if rows else (0.0, 0.0) for rows in groups}

    table = _table("Clients: example-level, each its own budget")
    table.add_column("Client", overflow="fold")
    for header in ("Run", "Rounds", "Times", "Steps", "Noise", "Rate", "Trust"):
        table.add_column(header, no_wrap=True, justify="left" if header == "Trust" else "right")
    _add_epsilons(table, measure)
    for rows, names in sorted(groups.items(), key=lambda item: (-spent[item[0]][0], item[1])):
        label = _clients_text(names)
        for row in rows:
            rounds = [c.round for name in names for c in ledgers[name] if c.run == row.run]
            table.add_row(
                label,
                row.run[:RUN_ID_SHOWN],
                _span(min(rounds), max(rounds)),
                str(row.charges),
                str(row.steps),
                row.noise,
                row.rate,
                row.trust,
                *map(epsilon_text, row.epsilons),
            )
            label = ""
        if not rows:
            table.add_row(label, "-", "-", "0", "0", "", "", "", "0.00", "0.00")
    console.print(table)

    largest = max(spent, key=lambda rows: spent[rows])
    rdp, tight = map(epsilon_text, spent[largest])
    console.print(
        f"Epsilon: of the whole ledger up to that row, at delta {measure.delta:g}. Largest over"
        f" {len(ledgers)} client{'s' if len(ledgers) > 1 else ''}: {tight} ({measure.accountant}),"
        f" {rdp} (rdp), client {_clients_text(groups[largest])}."
    )
    if any(len(rows) > 1 for rows in groups):
        console.print("Ledgers of several runs are filtered by rdp, the careful one.")
    if any(charge.trust == "aggregate" for charges in ledgers.values() for charge in charges):
        console.print(
            "Trust aggregate assumes that nobody sees single updates; towards whoever does, the"
            f" largest epsilon is {epsilon_text(max(map(measure.local, ledgers.values())))} (rdp)."
        )


def _print_charges(
    name: str, charges: list[Charge], measure: EpsilonMeasure, console: Console
) -> None:
    """One client, charge by charge; epsilon adds up."""
    table = _table(f"Client {_number(name)} ({name}), charge by charge")
    for header in ("Run", "Round", "Steps", "Noise", "Own\nnoise", "Rate", "Trust"):
        table.add_column(header, no_wrap=True, justify="left" if header == "Trust" else "right")
    _add_epsilons(table, measure)
    for number, charge in enumerate(charges, 1):
        table.add_row(
            charge.run[:RUN_ID_SHOWN],
            str(charge.round),
            str(charge.steps),
            f"{charge.noise_multiplier:.4g}",
            f"{charge.local_segment[0]:.4g}",
            f"{charge.sample_rate:.4g}",
            charge.trust,
            *map(epsilon_text, measure.of(charges[:number])),
        )
    console.print(table)
    console.print(f"Epsilon: of all charges so far, at delta {measure.delta:g}.")


def _print_server(charges: list[Charge], measure: EpsilonMeasure, console: Console) -> None:
    """The client-level ledger, apart: another unit, never added to the clients' own."""
    table = _table("Server: client-level, all clients at once")
    for header in ("Run", "Rounds", "Releases", "Noise", "Rate"):
        table.add_column(header, no_wrap=True, justify="right")
    _add_epsilons(table, measure)
    for row in summarise(charges, measure):
        rounds = [charge.round for charge in charges if charge.run == row.run]
        table.add_row(
            row.run[:RUN_ID_SHOWN],
            _span(min(rounds), max(rounds)),
            str(row.charges),
            row.noise,
            row.rate,
            *map(epsilon_text, row.epsilons),
        )
    console.print(table)
    console.print(
        f"Epsilon: of the whole ledger up to that row, at delta {measure.delta:g}, for one client"
        " with all its examples; another unit than above, never added to it."
    )


def _table(title: str) -> Table:
    table = plain_table(title)
    table.padding = 0  # ten columns in 80 characters
    return table


def _add_epsilons(table: Table, measure: EpsilonMeasure) -> None:
    for accountant in ("rdp", measure.accountant):
        table.add_column(f"Epsilon\n{accountant}", no_wrap=True, justify="right")


def _tight(accountant: str, default: str) -> str:
    return default if accountant == "rdp" else accountant


def _number(name: str) -> str:
    """The number in a simulated client's data set id, as it stands there; else the whole id."""
    found = re.search(r"-client-(\d+)$", name)
    return found[1] if found else name


def _unpadded(name: str) -> str:
    number = _number(name)
    return str(int(number)) if number.isdigit() else number


def _clients_text(names: list[str]) -> str:
    """``0007``, a range ``0000-0099 (100)``, or the first of several ``0003 ... (5)``."""
    numbers = [_number(name) for name in names]
    if len(names) == 1:
        return numbers[0]
    together = all(number.isdigit() for number in numbers) and (
        int(numbers[-1]) - int(numbers[0]) == len(names) - 1
    )
    shown = f"{numbers[0]}-{numbers[-1]}" if together else f"{numbers[0]} ..."
    return f"{shown} ({len(names)})"


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low}-{high}"


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
