"""Rule 2: one noise multiplier for the whole plan; what exceeds the plan is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from fedlite.base.errors import UsageError
from fedlite.privacy import ledger
from fedlite.privacy.accounting import calibrate_noise_multiplier, compute_epsilon, merge_segments
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import Spending, affordable
from fedlite.privacy.plan import PrivacyPlan, derive_max_participations
from tests.privacy.planted import Plant, caught
from tests.privacy.world import ClientWorld

OPTIONS: dict[str, Any] = {
    "epsilon": 3.0, "delta": 1e-5, "noise_multiplier": None, "max_grad_norm": 1.0,
    "sample_rate": 0.1, "expected_examples": 100, "steps": 10, "max_participations": 50,
    "accountant": "rdp", "randomness": "secure",
}  # fmt: skip


# --- the checks -----------------------------------------------------------------------------


def check_the_budget_holds(world: ClientWorld) -> None:
    """Asked once more than planned, the client refuses and says why; it never overspends."""
    assert world.plan is not None
    replies = [world.train(r).content for r in range(1, world.plan.max_participations + 2)]
    history = [charge.segment for charge in world.ledger().entries()]
    spent = compute_epsilon(history, world.plan.delta, world.plan.accountant)
    assert spent <= world.plan.epsilon, "the budget is overspent"
    *trained, last = [dict(reply.config_records["report"]) for reply in replies]
    assert all(report["status"] == "trained" for report in trained)
    assert last["status"] == "refused"
    assert f"would exceed the budget {world.plan.epsilon:g}" in last["reason"]
    assert not replies[-1].array_records


def check_the_whole_plan_fits(build: Callable[..., PrivacyPlan]) -> None:
    plan = build(**OPTIONS)
    whole = [plan.segment] * OPTIONS["max_participations"]
    spent = compute_epsilon(whole, plan.delta, plan.accountant)
    assert spent <= OPTIONS["epsilon"], "the rounds together overspend"
    assert spent > 0.95 * OPTIONS["epsilon"]


def check_few_clients_run_out(derive: Callable[[int, float], int]) -> None:
    for rounds, fraction in ((50, 1.0), (100, 0.1), (1000, 0.02), (3, 0.0001)):
        enough = binom.cdf(derive(rounds, fraction), rounds, fraction)
        assert enough >= 0.999, "many clients run out of budget"


def test_one_participation_too_many_is_refused_with_its_reason(
    client_world: Callable[..., ClientWorld],
) -> None:
    check_the_budget_holds(client_world("federation.max_participations=2"))


def test_one_noise_multiplier_serves_the_whole_plan() -> None:
    check_the_whole_plan_fits(PrivacyPlan.build)


def test_participations_under_sampling_are_a_high_quantile() -> None:
    check_few_clients_run_out(derive_max_participations)
    assert derive_max_participations(50, fraction=1.0) == 50


# --- planted bugs ---------------------------------------------------------------------------


def no_filter(patch: pytest.MonkeyPatch) -> None:
    def accept(history: list[Charge], charge: Charge, **limits: Any) -> Spending:
        return Spending(accepted=True, epsilon=1.0)

    patch.setattr(ledger, "affordable", accept)


def each_round_filtered_by_itself(patch: pytest.MonkeyPatch) -> None:
    def forgetful(_: object, charge: Charge, **limits: Any) -> Spending:
        return affordable([], charge, **limits)

    patch.setattr(ledger, "affordable", forgetful)


@pytest.mark.parametrize("plant", [no_filter, each_round_filtered_by_itself])
def test_the_planted_filters_are_caught(
    plant: Plant, client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = client_world("federation.max_participations=2")
    plant(monkeypatch)
    with caught("the budget is overspent"):
        check_the_budget_holds(world)


def calibrated_for_each_round(**options: Any) -> PrivacyPlan:
    """Epsilon 3 in each of 50 rounds is not epsilon 3."""
    return PrivacyPlan.build(**{**options, "max_participations": 1})


def test_the_planted_calibration_is_caught() -> None:
    with caught("the rounds together overspend"):
        check_the_whole_plan_fits(calibrated_for_each_round)


def mean_participations(rounds: int, fraction: float) -> int:
    return max(1, round(rounds * fraction))


def test_the_planted_number_of_participations_is_caught() -> None:
    with caught("run out of budget"):
        check_few_clients_run_out(mean_participations)


# --- further promises -----------------------------------------------------------------------


def test_a_server_that_sends_less_noise_is_refused(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world()
    weak = world.train(1, noise_multiplier=0.1)
    assert weak.content.config_records["report"]["status"] == "refused"
    lavish = world.train(1, epsilon=1000.0, noise_multiplier=0.1)  # the budget is the client's own
    assert lavish.content.config_records["report"]["status"] == "refused"
    assert world.ledger().entries() == []


@settings(max_examples=12)
@given(
    epsilon=st.floats(0.2, 20),
    sample_rate=st.sampled_from([0.01, 0.1, 0.5, 1.0]),
    steps=st.integers(1, 400),
    accountant=st.sampled_from(["prv", "rdp"]),
)
def test_calibration_stays_within_budget_and_is_not_wasteful(
    epsilon: float, sample_rate: float, steps: int, accountant: str
) -> None:
    noise_multiplier = calibrate_noise_multiplier(
        epsilon=epsilon, delta=1e-5, sample_rate=sample_rate, steps=steps, accountant=accountant
    )
    spent = compute_epsilon([(noise_multiplier, sample_rate, steps)], 1e-5, accountant)
    assert 0.93 * epsilon - 0.02 <= spent <= epsilon


@pytest.mark.parametrize(
    ("participations", "expected"), [(1, 1.08), (5, 2.36), (10, 3.42), (20, 5.09), (50, 8.88)]
)
def test_reference_points(participations: int, expected: float) -> None:
    history = [(1.2, 0.1, 10 * participations)]
    spent = compute_epsilon(history, 1e-3, "prv")
    assert spent == pytest.approx(expected, abs=0.02)
    assert spent < compute_epsilon(history, 1e-3, "rdp") < 1.4 * spent


def test_composition_does_not_depend_on_how_steps_are_grouped() -> None:
    split = [(1.2, 0.1, 3), (2.0, 0.1, 1), (1.2, 0.1, 7)]
    assert merge_segments(split) == ((1.2, 0.1, 10), (2.0, 0.1, 1))
    assert compute_epsilon([], 1e-5, "prv") == 0.0


def test_a_plan_that_cannot_afford_one_round_is_refused() -> None:
    with pytest.raises(UsageError, match="one participation costs epsilon"):
        PrivacyPlan.build(**{**OPTIONS, "epsilon": 0.5, "noise_multiplier": 0.5, "sample_rate": 1})


def test_delta_of_one_over_n_is_refused() -> None:
    with pytest.raises(UsageError, match="below 1/n"):
        PrivacyPlan.build(**{**OPTIONS, "delta": 0.01})


def test_other_noise_under_the_same_name_is_filtered_by_rdp() -> None:
    """A server may choose its next noise after seeing results, and keep the run's name."""
    limits: dict[str, Any] = {"budget": 8.0, "delta": 1e-5, "accountant": "prv"}
    first, other = Charge("a", 1, 2.0, 0.5, 1), Charge("a", 2, 1.9, 0.5, 1)
    again = Charge("a", 2, 2.0, 0.5, 1)
    history = [first.segment, other.segment]
    assert affordable([first], other, **limits).epsilon == compute_epsilon(history, 1e-5, "rdp")
    same = [first.segment, again.segment]
    assert affordable([first], again, **limits).epsilon == compute_epsilon(same, 1e-5, "prv")
