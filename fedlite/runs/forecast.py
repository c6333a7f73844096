"""What a configuration will spend, and its alternatives, before any training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedlite.base.errors import UsageError
from fedlite.federation.classes import class_members
from fedlite.federation.cohort import charged_rate, participation_rate
from fedlite.federation.plans import Plans, build_client_plan, build_plan
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.plan import PrivacyPlan, derive_max_participations
from fedlite.report.fleet import fleet_section
from fedlite.report.sections import FleetSection
from fedlite.runs.config import Config
from fedlite.runs.derived import few_line, uneven_line

SMALL_DELTA = 1e-4  # no client is expected to hold 10,000 examples
UNEVEN_PARTITIONS = ("dirichlet", "size")
NAMES = {  # by trust
    "local": "Example-level, local",
    "aggregate": "Example-level, aggregate",
    "central": "Client-level, central",
}


@dataclass(frozen=True)
class Guarantee:
    """One unit of privacy under one trust model, with the plan that meets its budget."""

    trust: str  # local | aggregate | central
    plan: PrivacyPlan | ClientPlan
    rate: float  # probability that a round asks one given client (or, with a fleet, charges it)
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


@dataclass(frozen=True)
class Forecast:
    """What a configuration will spend: the guarantees it chooses, then the alternatives at the same
    budget; ``refusals`` says by trust why an alternative cannot be had. ``fleet`` is what the
    rounds take on simulated devices, if there are any, and ``most_visits`` how often the busiest
    of them is asked, if that may be known. ``remarks`` say that one nominal size misleads, or that
    batches hold few examples."""

    config: Config
    clients: int
    guarantees: list[Guarantee]
    refusals: dict[str, str]
    fleet: FleetSection | None = None
    most_visits: int | None = None
    remarks: tuple[str, ...] = ()


def forecast(config: Config) -> Forecast:
    """Work out what ``config`` will spend. Trains nothing, charges nothing, writes nothing.

    Raises:
        UsageError: no privacy to plan, a plan that cannot be kept, or data that cannot be read
            where it decides something (:func:`nominal_sizes`).
    """
    sizes = nominal_sizes(config)
    guarantees, refusals = plan_guarantees(config, sizes)
    known = max(sizes) > 1  # nominal_sizes
    remarks = [uneven_line(config, sizes), few_line(config, sizes)] if known else []
    said = tuple(filter(None, remarks))
    found = Forecast(config, len(sizes), guarantees, refusals, remarks=said)
    return _on_fleet(found, sizes) if config.fleet.simulated else found


def _on_fleet(found: Forecast, sizes: Sequence[int]) -> Forecast:
    """``found`` with its rounds on the simulated fleet. Reads the data set, whose shape the
    networks have."""
    from fedlite.runs.fleet import build_fleet, device_entries, foresee_rounds
    from fedlite.runs.splits import splits_of

    config = found.config
    chosen = [one.plan for one in found.guarantees if one.chosen]
    plans = Plans(
        next((plan for plan in chosen if isinstance(plan, PrivacyPlan)), None),
        next((plan for plan in chosen if isinstance(plan, ClientPlan)), None),
    )
    fleet = build_fleet(config, plans, splits_of(config).task, sizes)
    assert fleet is not None
    rounds, most_visits = foresee_rounds(fleet, config.federation)
    section = fleet_section(device_entries(fleet), rounds)
    return replace(found, fleet=section, most_visits=most_visits)


def nominal_sizes(config: Config) -> list[int]:
    """Examples of each client, of a class of students its own alone: as given, from the data set,
    or 1 where nothing depends on them.

    The data set is read only where it alone knows the number of clients, where delta is so large
    that the size of a client decides whether it means anything, or where the partition makes
    clients of uneven sizes; not for the last two if the nominal size is given.

    Raises:
        UsageError: the data set cannot be read.
    """
    privacy, clients = config.privacy, config.federation.num_clients
    unclear = privacy.expected_examples is None and (
        privacy.delta > SMALL_DELTA or config.partition.name in UNEVEN_PARTITIONS
    )
    if clients is not None and not (config.privacy.example_level and unclear):
        if name := config.federation.class_name:
            clients = len(class_members(config.federation.classes, clients, config.seed)[name])
        return [privacy.expected_examples or 1] * clients
    from fedlite.runs.splits import splits_of

    try:
        return splits_of(config).client_sizes()
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
    wanted: list[str] = [config.privacy.trust] if config.privacy.example_level else []
    wanted += ["central"] if config.privacy.client_level else []
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
        plan = build_client_plan(config.privacy, config.federation, len(sizes))
    else:
        plan = build_plan(config.privacy, config.federation, sizes, config.fleet)
    rate = participation_rate(config.federation, len(sizes))
    if trust != "central":
        rate = charged_rate(config.federation, len(sizes), config.fleet)
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
        privacy = replace(privacy, trust="aggregate" if trust == "aggregate" else "local")
        if not config.privacy.example_level:
            privacy = replace(privacy, epsilon=budget, noise_multiplier=None)
        if trust == "aggregate" and federation.local_steps > 1:
            federation = replace(federation, local_steps=1)
            needs.append("federation.local_steps=1")
        if trust == "aggregate" and privacy.unit == "both":
            needs.append("privacy.unit=example")
    return replace(config, privacy=privacy, federation=federation), " and ".join(needs)
