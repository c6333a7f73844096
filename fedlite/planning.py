"""``fedlite plan``: what a configuration will spend, and its alternatives, before any training."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedlite.compose import compose_config
from fedlite.config import Config
from fedlite.errors import UsageError
from fedlite.federation.cohort import participation_rate
from fedlite.plans import build_client_plan, build_plan
from fedlite.privacy import ClientPlan, PrivacyPlan, compute_epsilon, derive_max_participations
from fedlite.tracking.pictures import planned_epsilon, save_figure
from fedlite.tracking.table import plain_table
from fedlite.tracking.words import NOT_PRIVATE, epsilon_text

PICTURE = "plan.png"
CURVE_POINTS = 12
SMALL_DELTA = 1e-4  # no client is expected to hold 10,000 examples
NAMES = {  # by trust
    "local": "Example-level, local",
    "aggregate": "Example-level, aggregate",
    "central": "Client-level, central",
}
OBSERVERS = {
    "local": "holds against everyone, the server included.",
    "aggregate": "holds only against those who see nothing but sums over {cohort} or more clients:"
    " an assumption as long as no protocol keeps single updates from the server.",
    "central": "protects all the data of a client together, against those who see the released"
    " models; the server is trusted to clip and to add the noise.",
}


@dataclass(frozen=True)
class Guarantee:
    """One unit of privacy under one trust model, with the plan that meets its budget."""

    trust: str  # local | aggregate | central
    plan: PrivacyPlan | ClientPlan
    rate: float  # probability that a round asks one given client
    chosen: bool  # by the configuration; else an alternative at the same budget
    needs: str = ""  # other options that an alternative has to change

    @property
    def name(self) -> str:
        """Unit and trust, short enough for a table."""
        return NAMES[self.trust]

    def epsilon_after(
        self, rounds: int, accountant: str | None = None, *, alone: bool = False
    ) -> float:
        """Epsilon after so many rounds, by the plan's accountant unless another is named.

        At the example level it is that of the client asked most often: where rounds ask a part of
        the clients, of one with the 0.999 quantile of the participations, as in the plan itself.
        ``alone`` counts its own noise only: what a server that sees single updates can tell.
        """
        plan = self.plan
        if isinstance(plan, ClientPlan):
            return plan.epsilon_after(rounds, accountant)
        noise_multiplier = plan.client_noise_multiplier if alone else plan.noise_multiplier
        participations = min(plan.max_participations, derive_max_participations(rounds, self.rate))
        history = [(noise_multiplier, plan.sample_rate, plan.steps * participations)]
        return compute_epsilon(history, plan.delta, accountant or plan.accountant)


def run_plan(overrides: Sequence[str], picture: Path) -> None:
    """Print what the composed configuration will spend and its alternatives; draw the picture.

    Trains nothing, charges nothing and makes no run directory.

    Raises:
        UsageError: no privacy to plan, a plan that cannot be kept, or data that cannot be read
            where it decides something (:func:`nominal_sizes`).
    """
    config = compose_config(overrides)
    sizes = nominal_sizes(config)
    guarantees, refusals = plan_guarantees(config, sizes)
    rounds = config.federation.rounds
    save_figure(_picture(guarantees, rounds), picture)

    console = Console(highlight=False)
    console.print(Text(_headline(config, guarantees[0], len(sizes))))
    if config.privacy.randomness == "deterministic":
        console.print(Text(f"{NOT_PRIVATE}: privacy.randomness=deterministic", style="bold red"))
    console.print()
    console.print(_noise_table(guarantees))
    console.print()
    console.print(_epsilon_table(guarantees, rounds))
    console.print()
    for note in _notes(guarantees, refusals):
        console.print(Text(note))
    console.print()
    console.print(Text.assemble(("picture  ", "dim"), str(picture)), soft_wrap=True)


def nominal_sizes(config: Config) -> list[int]:
    """Examples of each client: as given, from the data set, or 1 where nothing depends on them.

    The data set is read only where it alone knows the number of clients, or where delta is so
    large that the size of a client decides whether it means anything.

    Raises:
        UsageError: the data set cannot be read.
    """
    privacy, clients = config.privacy, config.federation.num_clients
    unclear = privacy.expected_examples is None and privacy.delta > SMALL_DELTA
    if clients is not None and not (config.example_level and unclear):
        return [privacy.expected_examples or 1] * clients
    from fedlite.data import load_splits

    try:
        return load_splits(config.dataset, config.partition, clients, config.seed).client_sizes()
    except UsageError as error:
        wanted = "federation.num_clients" if clients is None else "privacy.expected_examples"
        raise UsageError(f"{error}; or plan without the data: give {wanted}=N") from error


def plan_guarantees(config: Config, sizes: Sequence[int]) -> tuple[list[Guarantee], dict[str, str]]:
    """The guarantees that ``config`` chooses, then the alternatives at the same budget.

    Args:
        config: the configuration of the run.
        sizes: nominal examples of each client.

    Returns:
        the guarantees, and trust -> reason of each alternative that cannot be had.

    Raises:
        UsageError: no privacy to plan, or a chosen plan that cannot be kept.
    """
    wanted = [config.privacy.trust] if config.example_level else []
    wanted += ["central"] if config.client_level else []
    if not wanted:
        raise UsageError("privacy.unit=none: spends nothing, so there is nothing to plan")
    found = [_guarantee(config, trust, sizes, chosen=True) for trust in wanted]
    budget = found[0].plan.epsilon
    refusals = {}
    for trust in NAMES:
        if trust in wanted:
            continue
        other, needs = _alternative(config, trust, budget)
        try:
            found.append(_guarantee(other, trust, sizes, chosen=False, needs=needs))
        except UsageError as error:
            refusals[trust] = str(error)
    return found, refusals


def _guarantee(
    config: Config, trust: str, sizes: Sequence[int], *, chosen: bool, needs: str = ""
) -> Guarantee:
    plan: PrivacyPlan | ClientPlan
    if trust == "central":
        plan = build_client_plan(config, len(sizes))
    else:
        plan = build_plan(config, sizes)
    rate = participation_rate(config.federation, len(sizes))
    return Guarantee(trust, plan, rate, chosen, needs)


def _alternative(config: Config, trust: str, budget: float) -> tuple[Config, str]:
    """``config`` under another trust model, and the other options that have to change with it."""
    privacy, federation = config.privacy, config.federation
    needs: list[str] = []
    if trust == "central":
        client = replace(privacy.client, epsilon=budget, noise_multiplier=None)
        privacy = replace(privacy, client=client)
        if federation.fraction < 1 and federation.sampling != "bernoulli":
            federation = replace(federation, sampling="bernoulli")
            needs.append("federation.sampling=bernoulli")
    else:
        privacy = replace(privacy, trust=trust)
        if not config.example_level:
            privacy = replace(privacy, epsilon=budget, noise_multiplier=None)
        if trust == "aggregate" and federation.local_steps > 1:
            federation = replace(federation, local_steps=1)
            needs.append("federation.local_steps=1")
        if trust == "aggregate" and privacy.unit == "both":
            needs.append("privacy.unit=example")
    return replace(config, privacy=privacy, federation=federation), " and ".join(needs)


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


def _label(one: Guarantee) -> str:
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
        table.add_row(_label(one), *cells, *budget, style="bold" if one.chosen else None)
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
        for label, accountant in ((_label(one), tight), ("", "rdp")):
            cells = [_cell(one.epsilon_after(count, accountant)) for count in shown]
            table.add_row(label, accountant, *cells, style=style)
        if one.trust == "aggregate":
            cells = [_cell(one.epsilon_after(count, "pld", alone=True)) for count in shown]
            table.add_row("  towards the server", "pld", *cells, style=style)
    return table


def _cell(epsilon: float) -> str:
    return epsilon_text(epsilon) if epsilon < 100 else f"{math.ceil(epsilon):,}"


def _picture(guarantees: Sequence[Guarantee], rounds: int) -> Figure:
    """Epsilon by round of every guarantee, and of a single update under aggregate trust."""
    parts = [part / CURVE_POINTS for part in range(CURVE_POINTS + 1)]
    shown = sorted({max(1, math.ceil(rounds * part**2)) for part in parts})  # steep at the start
    curves = {_label(one): [one.epsilon_after(count) for count in shown] for one in guarantees}
    for one in guarantees:
        if one.trust == "aggregate":
            alone = [one.epsilon_after(count, "pld", alone=True) for count in shown]
            curves[f"{one.name}: towards the server"] = alone
    return planned_epsilon(shown, curves, [_label(one) for one in guarantees if one.chosen])


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
        yield f"No data set was read: delta {plan.delta:g} suits clients of {most}."
