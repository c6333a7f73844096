"""A forecast on the terminal: noise, epsilon by round, what each guarantee means."""

import math
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedlite.privacy.plan import PrivacyPlan
from fedlite.report.fleet import fleet_sentence
from fedlite.report.sections import FleetSection
from fedlite.report.table import plain_table
from fedlite.report.words import NOT_PRIVATE, epsilon_text
from fedlite.runs.config import Config
from fedlite.runs.derived import FEW, derived_constants, derived_line
from fedlite.runs.forecast import NAMES, Forecast, Guarantee

OBSERVERS = {
    "local": "holds against everyone, the server included.",
    "aggregate": "holds only against those who see nothing but sums over {cohort} or more clients:"
    " an assumption as long as no protocol keeps single updates from the server.",
    "central": "protects all the data of a client together, against those who see the released"
    " models; the server is trusted to clip and to add the noise.",
}


def show_forecast(found: Forecast) -> None:
    """Print a forecast."""
    config, guarantees, rounds = found.config, found.guarantees, found.config.federation.rounds
    console = Console(highlight=False)
    console.print(Text(_headline(config, guarantees[0], found.clients)))
    if config.privacy.randomness == "deterministic":
        console.print(Text(f"{NOT_PRIVATE}: privacy.randomness=deterministic", style="bold red"))
    console.print()
    console.print(_noise_table(guarantees))
    console.print()
    console.print(_epsilon_table(guarantees, rounds))
    console.print()
    if found.fleet is not None:
        console.print(_fleet_table(found.fleet))
        console.print(Text(fleet_sentence(found.fleet)))
        if found.most_visits is not None:
            console.print(Text(f"The busiest client is asked {found.most_visits} times."))
        console.print()
    for note in _notes(guarantees, found.refusals):
        console.print(Text(note))
    for remark in found.remarks:
        console.print(Text(f"Beware: {remark}.", style="yellow"))
    if derived := derived_constants(config):
        console.print(Text(f"Constants {derived_line(derived)}.", style="yellow"))


def _headline(config: Config, first: Guarantee, clients: int) -> str:
    federation, privacy = config.federation, config.privacy
    asked = "all" if first.rate >= 1 else f"{100 * first.rate:.3g}%"
    text = f"Clients: {clients}, {asked} of them in each of {federation.rounds} rounds."
    if not isinstance(first.plan, PrivacyPlan):
        return text
    text += f" Local steps: {federation.local_steps}, at sample rate {privacy.sample_rate:g}"
    if first.plan.expected_examples > 1:
        text += f" (about {first.plan.expected_batch_size:.3g} examples)"
    if first.plan.max_participations < federation.rounds:
        text += f"; a client takes part in {first.plan.max_participations} rounds at most"
    return f"{text}."


def label(one: Guarantee) -> str:
    """Its name, and whether the configuration chooses it."""
    return f"{one.name} (chosen)" if one.chosen else one.name


def _noise_table(guarantees: Sequence[Guarantee]) -> Table:
    table = plain_table("Noise, in units of the clip norm")
    table.add_column("Guarantee")
    for column in ("Noise\nmultiplier", "Each client\nadds", "Epsilon", "Delta"):
        table.add_column(column, justify="right")
    for one in guarantees:
        adds = "nothing"
        if isinstance(one.plan, PrivacyPlan):
            adds = f"{one.plan.client_noise_multiplier:.3f}"
        cells = (f"{one.plan.noise_multiplier:.3f}", adds)
        budget = (f"{one.plan.epsilon:.4g}", f"{one.plan.delta:g}")
        table.add_row(label(one), *cells, *budget, style="bold" if one.chosen else None)
    return table


def _epsilon_table(guarantees: Sequence[Guarantee], rounds: int) -> Table:
    shown = sorted({1, *(math.ceil(rounds * quarter / 4) for quarter in range(1, 5))})
    table = plain_table("Epsilon after so many rounds")
    table.add_column("Guarantee", no_wrap=True)
    table.add_column("by")
    for count in shown:
        table.add_column(f"{count}", justify="right")
    for one in guarantees:
        style = "bold" if one.chosen else None
        tight = "pld" if one.plan.accountant == "rdp" else one.plan.accountant
        for name, accountant in ((label(one), tight), ("", "rdp")):
            cells = [_cell(one.epsilon_after(count, accountant)) for count in shown]
            table.add_row(name, accountant, *cells, style=style)
        if one.trust == "aggregate":
            cells = [_cell(one.epsilon_after(count, "pld", alone=True)) for count in shown]
            table.add_row("  towards the server", "pld", *cells, style=style)
    return table


def _fleet_table(fleet: FleetSection) -> Table:
    table = plain_table("A visit on the fleet, in seconds")
    table.add_column("Class of devices")
    columns = ("Clients", "Down", "Compute", "Up", "Wait", "First\nvisit", "Joules")
    for column in columns:
        table.add_column(column, justify="right")
    for name, one in fleet["classes"].items():
        parts = (
            *(one[key] for key in ("download_seconds", "compute_seconds", "upload_seconds")),
            *(one[key] for key in ("overhead_seconds", "first_seconds", "joules")),
        )
        table.add_row(name, f"{one['clients']}", *(f"{part:.3g}" for part in parts))
    return table


def _cell(epsilon: float) -> str:
    return epsilon_text(epsilon) if epsilon < 100 else f"{math.ceil(epsilon):,}"


def _notes(guarantees: Sequence[Guarantee], refusals: dict[str, str]) -> Iterator[str]:
    """What each guarantee means and takes, one note each."""
    for one in guarantees:
        note = f"{one.name}: {OBSERVERS[one.trust]}"
        if isinstance(one.plan, PrivacyPlan):
            note = note.format(cohort=one.plan.min_cohort)
        yield f"{note} Needs {one.needs}." if one.needs else note
    for trust, reason in refusals.items():
        yield f"{NAMES[trust]}: cannot be had. {reason}."
    if guarantees[0].rate < 1:
        yield "Example-level epsilons are those of the client that is asked most often."
    plan = guarantees[0].plan
    if isinstance(plan, PrivacyPlan) and plan.expected_examples == 1:
        most = f"fewer than {1 / plan.delta:,.0f} examples"
        yield (
            f"No data set was read: delta {plan.delta:g} suits clients of {most}, and a batch holds"
            f" {FEW} or more of clients of {math.ceil(FEW / plan.sample_rate):,} or more."
        )
