"""The accountants at their limits: an epsilon of 0 or more, or a refusal, before any charge."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedlite.base.errors import FedliteError, UsageError
from fedlite.federation.messages import check_reply
from fedlite.privacy import accounting
from fedlite.privacy import ledger as ledger_module
from fedlite.privacy.accounting import (
    LARGEST_PRV_STEPS,
    LARGEST_TIGHT_SEGMENTS,
    LARGEST_TIGHT_STEPS,
    SMALLEST_NOISE,
    calibrate_noise_multiplier,
    compute_epsilon,
)
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import affordable
from fedlite.privacy.plan import PrivacyPlan
from tests.privacy.planted import caught
from tests.privacy.world import ClientWorld, make_plan

ACCOUNTANTS = ("prv", "pld", "rdp")
PRV_ERROR = 0.01


def powers(low: float, high: float) -> st.SearchStrategy[float]:
    """Of ten, with exponents between."""
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


NOISE = powers(-300, 6) | powers(-3, 6) | powers(-1, 2)
RATE = powers(-300, 0) | powers(-6, 0) | st.just(1.0) | st.just(math.nextafter(1, 0))
STEPS = powers(0, 6).map(int)
DELTA = powers(-300, math.log10(0.5)) | powers(-16, -0.5)


@settings(max_examples=40)
@given(noise=NOISE, rate=RATE, steps=STEPS, delta=DELTA)
@example(noise=10.0, rate=0.1, steps=10, delta=0.1)  # prv said -0.095
@example(noise=1.0, rate=0.01, steps=100, delta=1e-15)  # prv raised, pld said inf
@example(noise=1e-155, rate=0.5, steps=1, delta=1e-5)  # rdp never ended
@example(noise=1e6, rate=0.5, steps=1000, delta=1e-5)  # nor here, for hours
@example(noise=50.0, rate=0.5, steps=100_000, delta=1e-5)  # prv wanted gigabytes
def test_every_plan_has_an_epsilon_of_at_least_0_or_none(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    prv, pld, rdp = (compute_epsilon([(noise, rate, steps)], delta, name) for name in ACCOUNTANTS)
    for spent in (prv, pld, rdp):
        assert spent >= 0
        assert math.isfinite(spent) == (noise >= SMALLEST_NOISE)
    if math.isfinite(rdp):
        assert pld <= rdp + 1e-3 + 0.01 * rdp, "a fallback is an upper bound, and no wild one"
        assert 0.99 * pld <= prv <= pld + 2 * PRV_ERROR + 0.02 * rdp


@settings(max_examples=20)
@given(noise=NOISE, rate=RATE, steps=STEPS, delta=DELTA, factor=st.floats(1.2, 10))
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_what_costs_more_has_no_smaller_epsilon_at_any_limit(
    accountant: str, noise: float, rate: float, steps: int, delta: float, factor: float
) -> None:
    spent = compute_epsilon([(noise, rate, steps)], delta, accountant)
    for careless in (
        ((noise / factor, rate, steps), delta),
        ((noise, min(1.0, rate * factor), steps), delta),
        ((noise, rate, math.ceil(steps * factor)), delta),
        ((noise, rate, steps), delta / factor),
    ):
        more = compute_epsilon([careless[0]], careless[1], accountant)
        assert more >= spent * (1 - 5e-3) - 1e-3


def test_a_small_delta_is_left_to_rdp() -> None:
    history = [(1.0, 0.01, 100)]
    for delta in (1e-13, 1e-15, 1e-100, 5e-324):
        assert len({compute_epsilon(history, delta, name) for name in ACCOUNTANTS}) == 1
    tight, loose = (compute_epsilon(history, 1e-12, name) for name in ("prv", "rdp"))
    assert tight < loose


@pytest.mark.parametrize("accountant", ["prv", "pld"])
@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [(1e5, 0.5, 10**7), (1e6, 0.9999, 10**9), (1e4, 1.0, 10**9), (1e3, 0.5, 10**7)],
    ids=str,
)
def test_many_steps_are_left_to_rdp_at_once(
    accountant: str, noise: float, rate: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tight in ("_prv_epsilon", "_pld_epsilon"):  # either would go on for minutes
        monkeypatch.setattr(accounting, tight, lambda *_: pytest.fail("a tight one is asked"))
    history = [(noise, rate, steps)]
    assert compute_epsilon(history, 1e-5, accountant) == compute_epsilon(history, 1e-5, "rdp")


def test_the_limits_of_steps_hold_for_all_segments_together() -> None:
    def spent(steps: int, accountant: str) -> float:
        return compute_epsilon([(50.0, 0.1, steps // 2), (60.0, 0.1, steps // 2)], 1e-5, accountant)

    for steps, same in (
        (LARGEST_PRV_STEPS, {"prv": "prv", "pld": "pld"}),
        (LARGEST_PRV_STEPS + 2, {"prv": "pld", "pld": "pld"}),
        (LARGEST_TIGHT_STEPS + 2, {"prv": "rdp", "pld": "rdp"}),
    ):
        found = {name: spent(steps, name) for name in ACCOUNTANTS}
        assert found["pld"] <= found["rdp"]
        for name, by in same.items():
            assert found[name] == found[by]
    assert spent(LARGEST_PRV_STEPS, "pld") < spent(LARGEST_PRV_STEPS, "rdp")


def test_many_and_very_different_segments_stay_small() -> None:
    many = [(1 + number / 100, 0.01, 10) for number in range(LARGEST_TIGHT_SEGMENTS + 1)]
    assert compute_epsilon(many, 1e-5, "prv") == compute_epsilon(many, 1e-5, "rdp")
    coarse, fine = (0.3, 0.1, 2), (1e5, 1e-3, 10)  # the grid of the second would hold no first
    alone, both = (compute_epsilon(one, 1e-5, "pld") for one in ([coarse], [coarse, fine]))
    assert alone <= both * 1.001
    assert both <= alone * 1.01


@pytest.mark.parametrize("steps", [10**9 + 1, 2**63, 10**400])
def test_more_steps_than_anybody_takes_cost_everything(steps: int) -> None:
    assert {compute_epsilon([(1e6, 1e-9, steps)], 0.1, name) for name in ACCOUNTANTS} == {math.inf}


# --- plans ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "accountant"), [(0.002, "pld"), (0.002, "rdp"), (0.002, "prv"), (0.012, "prv")]
)
def test_a_small_budget_is_met_where_the_accountant_can_show_it(
    epsilon: float, accountant: str
) -> None:
    plan = {"delta": 1e-5, "sample_rate": 0.5, "steps": 10}

    def calibrate() -> float:
        return calibrate_noise_multiplier(epsilon=epsilon, accountant=accountant, **plan)

    if epsilon == 0.002 and accountant != "pld":
        with pytest.raises(UsageError, match=f"by {accountant} no noise .* take accountant pld"):
            calibrate()
        return
    spent = compute_epsilon([(calibrate(), 0.5, 10)], 1e-5, accountant)
    assert 0.9 * epsilon <= spent <= epsilon


def test_a_plan_without_a_budget_needs_noise_that_has_an_epsilon() -> None:
    options = {
        name: value for name, value in vars(make_plan()).items() if name != "noise_multiplier"
    }
    with pytest.raises(UsageError, match=r"privacy\.noise_multiplier=1e-155: "):
        PrivacyPlan.build(**{**options, "epsilon": None}, noise_multiplier=1e-155)


# --- charges --------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [8.0, math.inf])
def test_a_charge_without_an_epsilon_is_refused_whatever_the_budget(budget: float) -> None:
    hopeless = Charge("run", 1, 1e-155, 0.5, 1)
    for accountant in ACCOUNTANTS:
        found = affordable([], hopeless, budget=budget, delta=1e-5, accountant=accountant)
        assert not found.accepted
        assert found.epsilon == 0
        assert "epsilon inf after this round would exceed" in found.reason


def check_a_charged_reply_is_taken(world: ClientWorld) -> None:
    """However little it cost: what the accountant says of it passes the server's checks."""
    for server_round, noise in enumerate((50.0, 1e6), 1):
        reply = world.train(server_round, noise_multiplier=noise, sample_rate=1e-3)
        assert len(world.ledger().entries()) == server_round
        try:
            check_reply(reply.content)
        except FedliteError as error:
            raise AssertionError("charged and rejected") from error


@pytest.mark.parametrize("accountant", ["prv", "pld"])
def test_a_charged_reply_is_never_rejected_for_its_epsilon(
    accountant: str, client_world: Callable[..., ClientWorld]
) -> None:
    options = ("student=mlp", "privacy.delta=2e-3", f"privacy.accountant={accountant}")
    check_a_charged_reply_is_taken(client_world(*options))


def test_the_planted_bug_of_an_epsilon_below_0_is_caught(
    client_world: Callable[..., ClientWorld], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = client_world("student=mlp", "privacy.delta=2e-3")
    real = ledger_module.compute_epsilon

    def without_floor(*args: Any) -> float:
        return real(*args) - 0.005

    monkeypatch.setattr(ledger_module, "compute_epsilon", without_floor)
    with caught("charged and rejected"):
        check_a_charged_reply_is_taken(world)


@pytest.mark.parametrize("change", [{"noise_multiplier": 1e-155}, {"steps": 2**62}])
def test_a_request_that_has_no_epsilon_is_refused_and_not_charged(
    change: dict[str, float], client_world: Callable[..., ClientWorld]
) -> None:
    world = client_world("student=mlp")
    report = world.train(1, **change).content.config_records["report"]
    assert report["status"] == "refused"
    assert "would exceed the budget" in str(report["reason"])
    assert world.ledger().entries() == []
