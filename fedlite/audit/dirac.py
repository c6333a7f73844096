"""The Dirac-canary audit: the real training code, fed examples made to be noticed.

Every canary owns one coordinate of the model and pushes it, and nothing else, by the clip norm
whenever it is sampled: the strongest thing that one example (or one client) can do. What is left of
its push in the released weights is its score.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedlite.audit.one_run import CONFIDENCE, Bound, bound_from_scores
from fedlite.federation.training import LocalWork, train_client
from fedlite.federation.workbench import TrainedPart
from fedlite.privacy.accounting import compute_epsilon
from fedlite.privacy.client_level import ClientPlan, draw_cohort, release_average
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import Randomness
from fedlite.report.schema import CanaryEntry, CanarySetting, UnitName

OVERSHOOT = 10.0  # a canary's push before clipping, in clip norms: without clipping it stands out
LARGEST_DELTA = 1e-5  # a larger one would drown the bound; every plan has an epsilon here too

NoiseOf = Callable[[int], Randomness]
"""The randomness of one participation or release, by its number from 1."""


@dataclass(frozen=True)
class DiracAudit:
    """What an audit found. ``scores`` (m,) are in clip norms; ``included`` (m,) are the coins.

    ``passed`` is None where nothing was claimed.
    """

    unit: UnitName
    claimed_epsilon: float | None
    bound: Bound
    delta: float
    facts: CanarySetting
    scores: NDArray[np.float64]
    included: NDArray[np.bool_]

    @property
    def passed(self) -> bool | None:
        """Whether the lower bound is at or below the claim."""
        if self.claimed_epsilon is None:
            return None
        return self.bound.epsilon <= self.claimed_epsilon

    def record(self) -> CanaryEntry:
        """The entry of ``audits.json``."""
        return {
            "unit": self.unit,
            "claimed_epsilon": self.claimed_epsilon,
            "lower_bound": self.bound.epsilon,
            "confidence": CONFIDENCE,
            "delta": self.delta,
            "canaries": len(self.scores),
            "guesses": self.bound.guesses,
            "correct": self.bound.correct,
            **self.facts,
            "passed": self.passed,
        }


def toss_coins(count: int, seed: int) -> NDArray[np.bool_]:
    """``count`` fair coins: which canaries take part."""
    return np.random.default_rng(seed).random(count) < 0.5


def example_scores(
    included: NDArray[np.bool_],
    *,
    plan: PrivacyPlan | None,
    steps: int,
    sample_rate: float,
    participations: int,
    noise_of: NoiseOf,
) -> NDArray[np.float64]:
    """Train one weight for each canary as clients train; the weights are the scores.

    The data are the included canaries alone, as one-hot inputs of a linear layer under a loss that
    is linear too: every gradient points along the canary's own weight and is clipped.

    Args:
        included: (m,) which canaries are in the data.
        plan: clipping and noise; None trains without privacy.
        steps: of one participation.
        sample_rate: Poisson probability of each example in each step.
        participations: rounds of a client, each with fresh randomness.
        noise_of: where a participation gets its sampling and its noise.

    Returns:
        (m,) in clip norms: how far each canary's weight moved, all steps together.
    """
    clip = plan.max_grad_norm if plan else 1.0
    model = nn.Linear(len(included), 1, bias=False)
    nn.init.zeros_(model.weight)
    inputs = OVERSHOOT * clip * torch.eye(len(included))[torch.from_numpy(included)]
    part = TrainedPart(model, lambda model, rows: -model(inputs[rows])[:, 0], len(inputs))
    work = LocalWork(steps, sample_rate, 1.0, learning_rate=1.0, momentum=0.0)
    for number in range(1, participations + 1):
        train_client(model, part, work, plan, noise_of(number))
    moved: NDArray[np.float64] = model.weight.detach()[0].double().numpy() / clip
    return moved


def audit_examples(
    *,
    plan: PrivacyPlan | None,
    steps: int,
    sample_rate: float,
    participations: int,
    canaries: int,
    coins_seed: int,
    noise_of: NoiseOf,
) -> DiracAudit:
    """Audit DP-SGD at a plan: ``participations`` rounds of ``steps`` steps.

    Under ``trust`` aggregate it is the sum over a cohort that is private: one training with the
    noise of the whole sum stands for it.

    Args:
        plan: what is claimed; None audits training without privacy, which claims nothing.
        steps: of one participation.
        sample_rate: Poisson probability of each example in each step.
        participations: rounds that the most active client took part in.
        canaries: how many, each in the data with probability 1/2.
        coins_seed: of the audit's own coins.
        noise_of: the randomness of each participation, in the mode that is audited.
    """
    included = toss_coins(canaries, coins_seed)
    trained = plan and sum_level(plan)
    scores = example_scores(
        included,
        plan=trained,
        steps=steps,
        sample_rate=sample_rate,
        participations=participations,
        noise_of=noise_of,
    )
    delta = min(plan.delta, LARGEST_DELTA) if plan else LARGEST_DELTA
    facts: CanarySetting = {"steps": steps * participations, "sample_rate": sample_rate}
    claimed = None
    if plan:
        segments = [(plan.noise_multiplier, plan.sample_rate, steps * participations)]
        claimed = compute_epsilon(segments, delta, plan.accountant)
        facts |= {"noise_multiplier": plan.noise_multiplier, "trust": plan.trust}
    return DiracAudit(
        "example",
        claimed,
        bound_from_scores(scores, included, delta),
        delta,
        facts,
        scores,
        included,
    )


def sum_level(plan: PrivacyPlan) -> PrivacyPlan:
    """The plan by which one training carries all the noise that a released sum carries."""
    return replace(plan, trust="local", min_cohort=1, colluders=0)


def client_scores(
    included: NDArray[np.bool_], *, plan: ClientPlan, rounds: int, noise_of: NoiseOf
) -> NDArray[np.float64]:
    """Release rounds of canary clients with the real ``release_average``; sums are the scores.

    Each client in a cohort sends an update along its own coordinate, far above the clip.

    Args:
        included: (m,) which canary clients exist.
        plan: sampling, clip and noise.
        rounds: releases, each with a fresh cohort and fresh noise.
        noise_of: the randomness of a round.

    Returns:
        (m,) in clip norms: the sum of each coordinate over all releases.
    """
    clients = torch.eye(len(included))[torch.from_numpy(included)]
    like = {"canary": torch.zeros(len(included))}
    scores, clip = np.zeros(len(included)), plan.clip
    for number in range(1, rounds + 1):
        randomness = noise_of(number)
        cohort = draw_cohort(len(clients), plan.participation_rate, randomness)
        updates = [{"canary": OVERSHOOT * clip * clients[client]} for client in cohort]
        release = release_average(updates, like, plan, clip, randomness)
        scores += release.average["canary"].double().numpy() * plan.expected_cohort / clip
        clip = release.clip
    return scores


def audit_clients(
    *, plan: ClientPlan, rounds: int, canaries: int, coins_seed: int, noise_of: NoiseOf
) -> DiracAudit:
    """Audit the client-level mechanism over ``rounds`` releases; arguments as above."""
    included = toss_coins(canaries, coins_seed)
    scores = client_scores(included, plan=plan, rounds=rounds, noise_of=noise_of)
    delta = min(plan.delta, LARGEST_DELTA)
    noise_multiplier, sample_rate, steps = plan.segment
    segments = [(noise_multiplier, sample_rate, steps * rounds)]
    facts: CanarySetting = {
        "steps": steps * rounds,
        "sample_rate": sample_rate,
        "noise_multiplier": noise_multiplier,
        "trust": "central",
    }
    return DiracAudit(
        "client",
        compute_epsilon(segments, delta, plan.accountant),
        bound_from_scores(scores, included, delta),
        delta,
        facts,
        scores,
        included,
    )
