"""The Dirac audit passes on the real training code and catches what it can see: planted bugs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from fedlite.audit import dirac
from fedlite.audit.dirac import DiracAudit, audit_clients, audit_examples, example_scores
from fedlite.federation import training
from fedlite.privacy import client_level, steps
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.clipping import ClippedSum, Clipper
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import Randomness, make_randomness
from fedlite.privacy.sampling import PoissonSampler
from tests.privacy.planted import UnderstatesItsSensitivity

CLAIM = 1.43
MODES = ["deterministic", "secure"]


def example_plan(**changes: object) -> PrivacyPlan:
    settings: dict[str, object] = {
        "epsilon": CLAIM,
        "delta": 1e-5,
        "noise_multiplier": None,
        "max_grad_norm": 2.0,
        "sample_rate": 0.1,
        "expected_examples": 500,
        "steps": 10,
        "max_participations": 20,
        "accountant": "prv",
        "randomness": "secure",
    }
    return PrivacyPlan.build(**(settings | changes))  # type: ignore[arg-type]


def client_plan(*, adaptive: bool = False) -> ClientPlan:
    return ClientPlan.build(
        epsilon=CLAIM,
        delta=1e-5,
        noise_multiplier=None,
        clip=1.0,
        participation_rate=0.1,
        num_clients=100,
        rounds=200,
        accountant="pld",
        randomness="secure",
        adaptive=adaptive,
        target_quantile=0.5,
        clip_learning_rate=0.2,
        bit_noise=None,
    )


def audited_examples(plan: PrivacyPlan | None, mode: str = "deterministic") -> DiracAudit:
    return audit_examples(
        plan=plan,
        steps=10,
        sample_rate=0.1,
        participations=20,
        canaries=1000,
        coins_seed=0,
        noise_of=lambda number: make_randomness(mode, 0, "test", number),
    )


def audited_clients(plan: ClientPlan, mode: str = "deterministic") -> DiracAudit:
    return audit_clients(
        plan=plan,
        rounds=200,
        canaries=1000,
        coins_seed=0,
        noise_of=lambda number: make_randomness(mode, 0, "test", number),
    )


# --- planted bugs -------------------------------------------------------------------------------


def quarter_of_the_noise(patch: pytest.MonkeyPatch) -> None:
    original = steps.add_noise

    def add_noise(
        total: ClippedSum, noise_multiplier: float, randomness: Randomness
    ) -> tuple[Tensor, ...]:
        return original(total, noise_multiplier / 4, randomness)

    patch.setattr(steps, "add_noise", add_noise)


def quarter_of_the_noise_where_clients_train(patch: pytest.MonkeyPatch) -> None:
    """In the one function of clients and audits: the audit runs it, and not one of its own."""
    original = training.train_steps

    def train(*args: Any, plan: PrivacyPlan, **options: Any) -> int:
        weak = replace(plan, noise_multiplier=plan.noise_multiplier / 4)
        return original(*args, plan=weak, **options)

    patch.setattr(training, "train_steps", train)


def an_engine_that_understates_its_sensitivity(patch: pytest.MonkeyPatch) -> None:
    train = partial(training.train_steps, engine=UnderstatesItsSensitivity)
    patch.setattr(training, "train_steps", train)


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    def sum_as_it_is(self: Clipper) -> None:
        for parameter in self.params:
            parameter.summed_grad = parameter.grad_sample.sum(dim=0)

    patch.setattr(Clipper, "clip_and_accumulate", sum_as_it_is)


def full_batch_charged_as_sampled(patch: pytest.MonkeyPatch) -> None:
    def everything(self: PoissonSampler) -> Iterator[list[int]]:
        for _ in range(self.steps):
            yield list(range(self.num_samples))

    patch.setattr(PoissonSampler, "__iter__", everything)


def quarter_of_the_client_noise(patch: pytest.MonkeyPatch) -> None:
    quarter = property(lambda plan: plan.noise_multiplier / 4)
    patch.setattr(ClientPlan, "update_noise_multiplier", quarter)


def clients_not_clipped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(client_level, "clip_update", lambda update, clip: (update, 0.0))


def all_clients_charged_as_sampled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dirac, "draw_cohort", lambda count, rate, randomness: list(range(count)))


Bug = Callable[[pytest.MonkeyPatch], None]


# --- tests --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("every_engine")
@pytest.mark.parametrize("mode", MODES)
def test_the_real_training_code_passes(mode: str) -> None:
    audit = audited_examples(example_plan(), mode)
    assert audit.claimed_epsilon == pytest.approx(CLAIM, abs=0.02)
    assert audit.passed


def test_canaries_are_seen_at_all() -> None:
    """With seeded noise: with a secret's, one run in twenty or so proves next to nothing."""
    assert 0.05 < audited_examples(example_plan()).bound.epsilon < 1.0
    for adaptive in (False, True):
        assert 0.05 < audited_clients(client_plan(adaptive=adaptive)).bound.epsilon < 1.0


@pytest.mark.parametrize(
    ("bug", "least"),
    [
        (quarter_of_the_noise, 1.8),
        (quarter_of_the_noise_where_clients_train, 1.8),
        (an_engine_that_understates_its_sensitivity, 1.8),
        (no_clipping, 3.5),
        (full_batch_charged_as_sampled, 3.5),
    ],
)
def test_a_planted_bug_in_training_is_caught(
    bug: Bug, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    audit = audited_examples(example_plan())
    assert audit.passed is False
    assert audit.bound.epsilon > least


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_the_real_release_of_clients_passes(mode: str, adaptive: bool) -> None:
    audit = audited_clients(client_plan(adaptive=adaptive), mode)
    assert audit.claimed_epsilon == pytest.approx(CLAIM, abs=0.02)
    assert audit.passed


@pytest.mark.parametrize(
    "bug", [quarter_of_the_client_noise, clients_not_clipped, all_clients_charged_as_sampled]
)
def test_a_planted_bug_in_the_release_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    assert audited_clients(client_plan()).passed is False


def test_training_without_privacy_claims_nothing_and_hides_nothing() -> None:
    audit = audited_examples(None)
    assert audit.claimed_epsilon is None
    assert audit.passed is None
    assert audit.bound.epsilon > 4.5


def test_an_included_canary_moves_its_weight_by_one_clip_norm_a_step() -> None:
    included = np.array([True, False, True, False])
    plan = example_plan(sample_rate=1.0)
    silent = replace(plan, noise_multiplier=0.0)
    scores = example_scores(
        included,
        plan=silent,
        steps=3,
        sample_rate=1.0,
        participations=2,
        noise_of=lambda number: make_randomness("deterministic", 0, "test", number),
    )
    assert scores == pytest.approx([6, 0, 6, 0], abs=1e-4)


def test_under_aggregate_trust_the_noise_of_the_whole_sum_is_audited() -> None:
    plan = example_plan(steps=1, max_participations=200, trust="aggregate", min_cohort=26)
    assert plan.client_noise_multiplier == pytest.approx(plan.noise_multiplier / 5)
    audit = audit_examples(
        plan=plan,
        steps=1,
        sample_rate=0.1,
        participations=200,
        canaries=1000,
        coins_seed=0,
        noise_of=lambda number: make_randomness("deterministic", 0, "test", number),
    )
    assert audit.passed
    assert audit.facts["trust"] == "aggregate"
    spread = audit.scores[~audit.included].std()
    assert spread == pytest.approx(plan.noise_multiplier * np.sqrt(200), rel=0.1)


def test_the_record_holds_what_the_report_needs() -> None:
    record = audited_examples(example_plan()).record()
    assert record["steps"] == 200
    assert record["canaries"] == 1000
    assert record["confidence"] == 0.95
    assert record["passed"] is True
    assert record["correct"] <= record["guesses"]
