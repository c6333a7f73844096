"""Rule 19, the client's side: shares of noise that are enough in the smallest released sum."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedlite.federation.messages import CONFIG, to_state
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.charges import Charge
from fedlite.privacy.ledger import affordable
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import SecureRandomness
from fedlite.runs.config import Config
from tests.privacy.world import ClientWorld, batch, make_plan, update_of

COHORT, COLLUDERS = 8, 2

# No batch has an example in it, so that an update is nothing but its client's noise.
SILENT = {"sample_rate": 1e-9, "expected_examples": 10**9}


def aggregate_plan(kind: type[PrivacyPlan] = PrivacyPlan) -> PrivacyPlan:
    plan = make_plan(
        trust="aggregate",
        noise_multiplier=2.0,
        max_grad_norm=0.5,
        min_cohort=COHORT,
        colluders=COLLUDERS,
        **SILENT,
    )
    return kind(**asdict(plan))


@cache
def student() -> nn.Module:
    """A network of 120,000 weights: the standard deviation of its noise is measured to 0.2%."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1600), nn.Tanh(), nn.Linear(1600, 10))


def noise_of_a_client(plan: PrivacyPlan) -> Tensor:
    """What one client adds, measured in the real local steps: one value per weight."""
    inputs, labels = batch((1, 8, 8), 1)
    return update_of(student(), inputs, labels, plan, randomness=SecureRandomness())


def unknown_to_the_observer(noises: Sequence[Tensor], colluders: int) -> float:
    """Standard deviation of a sum's noise less what observer and colluders added themselves."""
    return float(torch.stack(list(noises)[1 + colluders :]).sum(dim=0).std())


def smallest_sum_is_noised_enough(plan: PrivacyPlan) -> None:
    """The check: noise of the smallest released sum, as the strongest observer sees it."""
    noises = [noise_of_a_client(plan) for _ in range(plan.min_cohort)]
    promised = plan.noise_multiplier * plan.max_grad_norm
    assert unknown_to_the_observer(noises, plan.colluders) >= 0.98 * promised
    assert unknown_to_the_observer(noises, 0) >= 0.98 * promised


def test_the_smallest_sum_is_noised_enough_for_whoever_knows_some_shares() -> None:
    plan = aggregate_plan()
    smallest_sum_is_noised_enough(plan)
    wasteful = unknown_to_the_observer([noise_of_a_client(plan) for _ in range(COHORT)], COLLUDERS)
    assert wasteful <= 1.02 * plan.noise_multiplier * plan.max_grad_norm


def test_under_local_trust_one_client_alone_is_noised_enough() -> None:
    plan = make_plan(noise_multiplier=2.0, max_grad_norm=0.5, **SILENT)
    assert float(noise_of_a_client(plan).std()) >= 0.98


# --- planted bugs: each of these the check above must see -----------------------------------


class SizedForTheUsualCohort(PrivacyPlan):
    """Planted: shares for all who were asked, where a tenth did not answer."""

    @property
    def client_noise_multiplier(self) -> float:
        return self.noise_multiplier / math.sqrt(self.min_cohort / 0.9 - 1 - self.colluders)


class DividedByTheCohort(PrivacyPlan):
    """Planted: standard deviations added up as if they were variances."""

    @property
    def client_noise_multiplier(self) -> float:
        return self.noise_multiplier / self.sharers


class ForgetsTheObserver(PrivacyPlan):
    """Planted: a client in the cohort knows its own share and subtracts it."""

    @property
    def client_noise_multiplier(self) -> float:
        return self.noise_multiplier / math.sqrt(self.min_cohort - self.colluders)


class ForgetsTheColluders(PrivacyPlan):
    """Planted: the observer's friends tell it their shares."""

    @property
    def client_noise_multiplier(self) -> float:
        return self.noise_multiplier / math.sqrt(self.min_cohort - 1)


@pytest.mark.parametrize(
    "planted",
    [SizedForTheUsualCohort, DividedByTheCohort, ForgetsTheObserver, ForgetsTheColluders],
)
def test_the_check_sees_the_planted_bug(planted: type[PrivacyPlan]) -> None:
    with pytest.raises(AssertionError):
        smallest_sum_is_noised_enough(aggregate_plan(planted))


# --- through real messages ------------------------------------------------------------------

AGGREGATE = (
    "privacy=aggregate",
    "privacy.noise_multiplier=1",
    "privacy.epsilon=null",
    "privacy.aggregate.min_cohort=4",
    "federation.learning_rate=0.5",
)
NO_EXAMPLES = "privacy.sample_rate=1e-6"


def updates(world: ClientWorld, server_round: int = 1, mu: Sequence[float] = ()) -> list[Tensor]:
    """Every client's summed and noised gradients, from what its reply holds."""
    before = world.student.state_dict()
    assert world.plan is not None
    unit = world.plan.expected_batch_size / world.config.federation.learning_rate
    messages = [world.request(server_round, i) for i in range(world.splits.num_clients)]
    for message, value in zip(messages, mu, strict=False):
        message.content.config_records[CONFIG]["proximal-mu"] = value
    moved = []
    for reply in world.grid.send_and_receive(messages):
        assert not reply.has_error(), reply.error.reason
        after = to_state(reply.content.array_records["arrays"])
        moved.append(torch.cat([((before[n] - after[n]) * unit).flatten() for n in before]))
    return moved


def sum_of_clients_is_noised_enough(world: ClientWorld) -> None:
    """The check on what leaves the clients: the observer is one of the cohort."""
    assert world.plan is not None
    promised = world.plan.noise_multiplier * world.plan.max_grad_norm
    assert unknown_to_the_observer(updates(world), colluders=0) >= 0.95 * promised


def test_replies_of_the_smallest_cohort_are_noised_enough_in_their_sum(
    tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(*AGGREGATE, NO_EXAMPLES)
    sum_of_clients_is_noised_enough(ClientWorld(config, tmp_path / "sound"))

    planted = property(lambda plan: plan.noise_multiplier / math.sqrt(plan.min_cohort))
    monkeypatch.setattr(PrivacyPlan, "client_noise_multiplier", planted)
    world = ClientWorld(config, tmp_path / "planted")
    with pytest.raises(AssertionError):
        sum_of_clients_is_noised_enough(world)


def test_the_ledger_holds_the_claim_and_the_client_s_own_share(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world(*AGGREGATE, "student=mlp")
    report = world.train(1).content.config_records["report"]
    (charge,) = world.ledger().entries()
    assert (charge.trust, charge.noise_multiplier) == ("aggregate", 1.0)
    assert charge.client_noise_multiplier == pytest.approx(1 / math.sqrt(3))
    claimed = compute_epsilon([charge.segment], 1e-5, "prv")
    assert report["epsilon"] == claimed < compute_epsilon([charge.local_segment], 1e-5, "prv")


def repeated_requests_share_no_reply(world: ClientWorld) -> None:
    """The check: two sums of one round must not consist of the same noised replies."""
    first, second = updates(world), updates(world)
    assert not any(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert len(world.ledger().entries()) == 2


def test_a_repeated_request_is_a_second_release(
    client_world: Callable[..., ClientWorld], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Two sums of the same replies but one would bare that one by subtraction."""
    repeated_requests_share_no_reply(client_world(*AGGREGATE, "student=mlp"))
    # Right under local trust, planted under this one.
    stores_replies = ClientWorld(tiny_config("student=mlp"), tmp_path / "local")
    with pytest.raises(AssertionError):
        repeated_requests_share_no_reply(stores_replies)


def proximal_term_only_scales_the_sum(world: ClientWorld, mu: Sequence[float]) -> None:
    """The check: with FedProx the sum is the noised sum without it, times a public constant."""
    plain, pulled = sum(updates(world)), sum(updates(world, mu=mu))
    constant = 1 - world.config.federation.learning_rate * mu[0]
    assert isinstance(plain, Tensor)
    assert torch.allclose(torch.as_tensor(pulled), constant * plain, atol=2e-3)


def test_the_proximal_term_is_post_processing_of_the_sum(
    client_world: Callable[..., ClientWorld],
) -> None:
    world = client_world(*AGGREGATE, "student=mlp", "privacy.randomness=deterministic")
    proximal_term_only_scales_the_sum(world, mu=[0.6] * 4)
    with pytest.raises(AssertionError):  # planted: a server that silences all clients but one
        proximal_term_only_scales_the_sum(world, mu=[0.0, 2.0, 2.0, 2.0])


def test_a_local_claim_counts_what_was_charged_for_sums_with_one_clients_noise_alone() -> None:
    """Else a local run after an aggregate one would promise what was given away before."""
    limits: dict[str, Any] = {"delta": 1e-5, "accountant": "rdp"}
    summed = [Charge("a", r, 2.0, 0.1, 1, "aggregate", 0.2) for r in range(1, 21)]
    local = Charge("b", 1, 2.0, 0.1, 1)
    spent = affordable(summed, local, budget=1e9, **limits).epsilon
    true = compute_epsilon([(0.2, 0.1, 20), local.segment], 1e-5, "rdp")
    assert spent == true
    assert not affordable(summed, local, budget=true - 0.1, **limits).accepted
    more = Charge("b", 1, 2.0, 0.1, 1, "aggregate", 0.2)
    assert affordable(summed, more, budget=1e9, **limits).epsilon < 0.1 * true
