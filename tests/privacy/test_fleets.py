"""What a simulated fleet must not do to privacy (docs/fleets.md): its times are public, nobody
pushes another out of a client-level sum, and no round tells whom a secret cohort drew."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedlite.base.errors import UsageError
from fedlite.federation.cohort import charged_rate
from fedlite.federation.fleet import Fleet, RoundEnd, Visit, end_round
from fedlite.federation.options import FederationOptions
from fedlite.federation.plans import Plans, build_plan
from fedlite.privacy.plan import derive_max_participations
from fedlite.runs import fleet as runs_fleet
from fedlite.runs.compose import compose_config
from fedlite.runs.config import Config
from fedlite.runs.fleet import build_fleet
from tests.federation.fleets import device, make_fleet
from tests.federation.scripted import ScriptedClients, add, federation, run_scripted
from tests.privacy.planted import caught
from tests.privacy.releases import make_client_plan
from tests.tasks import shaped

TASK = shaped((1, 8, 8))
CLIENT = ("fleet=phones", "privacy=client", "privacy.expected_examples=60")
HALF = ("federation.sampling=bernoulli", "federation.fraction=0.5")


# --- combinations that nobody could prove ---------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((*CLIENT, *HALF, "fleet.over_selection=1.3"), "push another out"),
        ((*CLIENT, "privacy=both", *HALF, "fleet.over_selection=1.3"), "push another out"),
        ((*CLIENT, "privacy.expected_examples=null"), "must not follow from the clients' data"),
        (("fleet=phones", "fleet.over_selection=1.3"), "every client is asked already"),
        (("fleet.over_selection=1.3", *HALF), "there is no fleet"),
        (("fleet.deadline_s=60",), "there is no fleet"),
        (("fleet=phones", "fleet.classes.phone_fast.dropout=1.5"), "phone_fast.dropout=1.5: must"),
        (("fleet=phones", "+fleet.classes.tablet.gflops=9"), "tablet.downlink_mbps: missing"),
        (("fleet=phones", "+fleet.classes.phone_fast.colour=red"), "colour: no such option"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(overrides: Sequence[str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as refusal:
        compose_config(overrides)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ("fleet=phones", "fleet.over_selection=1.3", "federation.fraction=0.5"),
        ("fleet=mixed", "privacy=aggregate", "fleet.deadline_s=30"),
        (*CLIENT, *HALF, "fleet.deadline_s=30"),
        ("fleet=boards", "privacy=both", "privacy.expected_examples=60", *HALF),
        ("fleet=microcontrollers", "privacy=none", "fleet.deadline_s=5"),
    ],
)
def test_what_can_be_is_not(overrides: Sequence[str]) -> None:
    assert compose_config(overrides).fleet.simulated


# --- plans count every charge ---------------------------------------------------------------


def test_participations_are_those_of_who_is_asked_and_there() -> None:
    options = ("fleet=phones", "federation.fraction=0.5", "fleet.over_selection=1.2")
    config = compose_config([*options, "federation.rounds=100"])
    plan = build_plan(config.privacy, config.federation, [60] * 20, config.fleet)
    rate = charged_rate(config.federation, 20, config.fleet)
    assert rate == pytest.approx(0.6 * 0.6)
    assert plan.max_participations == derive_max_participations(100, rate)


def test_the_smallest_sum_is_one_that_a_fleet_reaches_in_nearly_every_round() -> None:
    config = compose_config(["fleet=phones", "privacy=aggregate"])
    plan = build_plan(config.privacy, config.federation, [60] * 100, config.fleet)
    counted = []
    fleet = make_fleet(100, classes=dict(config.fleet.classes), seed=config.seed)
    for number in range(200):
        counted.append(
            len(end_round(fleet.visits(number, range(100)), range(100), None, None).counted)
        )
    assert sum(count >= plan.min_cohort for count in counted) >= 196
    more = ["federation.fraction=0.5", "privacy.aggregate.min_cohort=60"]
    other = compose_config(["fleet=phones", "privacy=aggregate", *more])
    with pytest.raises(UsageError, match="no round has more than 50"):
        build_plan(other.privacy, other.federation, [60] * 100, other.fleet)


# --- times are public -----------------------------------------------------------------------


def check_times_are_public(config: Config) -> None:
    """Client 0 holds 60 examples, or 900: nobody's visit may show it."""
    sizes = ([60] * 20, [900] + [60] * 19)
    plan = build_plan(config.privacy, config.federation, sizes[0], config.fleet)
    plans = Plans(example=plan if config.privacy.example_level else None)
    found = [build_fleet(config, plans, TASK, held) for held in sizes]
    assert found[0] == found[1], "times follow from private data"


@pytest.mark.parametrize("options", [("privacy=example",), CLIENT[1:]], ids=["example", "client"])
def test_times_do_not_follow_from_how_many_examples_there_are(options: Sequence[str]) -> None:
    check_times_are_public(compose_config(["fleet=phones", *options]))


def test_the_planted_bug_times_of_the_largest_client_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = runs_fleet.build_fleet

    def by_the_largest(config: Config, plans: Plans, task: Any, sizes: Sequence[int]) -> Any:
        assert plans.example is not None
        own = replace(plans.example, expected_examples=max(sizes))
        return real(config, Plans(own), task, sizes)

    monkeypatch.setitem(check_times_are_public.__globals__, "build_fleet", by_the_largest)
    with caught("times follow from private data"):
        check_times_are_public(compose_config(["fleet=phones"]))


# --- nobody pushes another out of a client-level sum ----------------------------------------

OF_A_COHORT = FederationOptions(fraction=0.5, sampling="bernoulli")


def check_everyone_counts_by_itself(fleet: Fleet) -> None:
    """Neighbours differ in one client, so who else counts must not hang on it."""

    def counted(cohort: Sequence[int]) -> set[int]:
        needed, deadline = fleet.needed(OF_A_COHORT), fleet.options.deadline_s
        return set(end_round(fleet.visits(1, cohort), cohort, needed, deadline).counted)

    everybody = range(fleet.num_clients)
    for client in everybody:
        others = [one for one in everybody if one != client]
        assert counted(everybody) - {client} == counted(others), "one client decides of another"


BUSY = {"any": device(availability=0.8, dropout=0.2)}


def test_a_deadline_drops_each_client_by_itself() -> None:
    check_everyone_counts_by_itself(make_fleet(20, classes=BUSY, spread=0.5, deadline_s=6.0))
    check_everyone_counts_by_itself(make_fleet(20, classes=BUSY, spread=0.5))


def test_the_first_replies_alone_would_not() -> None:
    """The planted bug that the refusal of over-selection at the client level stands for."""
    with caught("one client decides of another"):
        check_everyone_counts_by_itself(make_fleet(20, spread=0.5, over_selection=1.5))


# --- a secret cohort stays one --------------------------------------------------------------

TWO = {"fast": device(), "slow": device(gflops=0.2)}


def check_rounds_tell_nothing_of_the_cohort(directory: Path) -> None:
    """Two runs draw different secret cohorts; what their rounds tell of the fleet is the same."""
    plan = make_client_plan(
        participation_rate=0.5, expected_cohort=8.0, epsilon=1e3, randomness="secure"
    )
    told, asked = [], []
    for name in ("one", "other"):
        made = federation(directory / name, 16, *HALF, "federation.rounds=4", client_plan=plan)
        made.fleet = make_fleet(16, hidden_rate=0.5, classes=TWO, spread=0.3)
        clients = ScriptedClients([add(1.0)] * 16)
        run_scripted(clients, made)
        told.append([record.simulated for record in made.history])
        asked.append(clients.asked)
    assert asked[0] != asked[1]
    assert told[0] == told[1], "a round tells of its cohort"


def test_rounds_tell_nothing_of_a_secret_cohort(tmp_path: Path) -> None:
    check_rounds_tell_nothing_of_the_cohort(tmp_path)


def test_the_planted_bug_times_of_the_cohort_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., dict[str, float]] = Fleet.account

    def of_the_cohort(
        self: Fleet, number: int, visits: Sequence[Visit], end: RoundEnd, clock: float
    ) -> dict[str, float]:
        return real(replace(self, hidden_rate=None), number, visits, end, clock)

    monkeypatch.setattr(Fleet, "account", of_the_cohort)
    with caught("a round tells of its cohort"):
        check_rounds_tell_nothing_of_the_cohort(tmp_path)


def test_a_run_s_fleet_knows_whether_its_cohorts_are_secret() -> None:
    for options, rate in (((*CLIENT, *HALF), 0.5), (CLIENT, None), (("fleet=phones",), None)):
        config = compose_config(options)
        plans = Plans.build(config.privacy, config.federation, [60] * 20, config.fleet)
        fleet = build_fleet(config, plans, TASK, [60] * 20)
        assert fleet is not None
        assert fleet.hidden_rate == rate
