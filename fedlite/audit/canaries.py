"""Canaries: invented examples, or clients, whose traces in what a run's code releases are guessed.

A fair coin decides of each whether it is in the data. The scratch federation trains; the auditor
knows how each would push (its clipped gradient, by plain autograd) and sees what the server sees.
Guessed coins give a lower bound of epsilon (:mod:`fedlite.audit.one_run`), and all that was seen is
tested against the plan (:mod:`fedlite.audit.checks`).

What is attacked is either the run's own student, on random examples with random labels, or a layer
made for it (:mod:`fedlite.audit.dirac`), where a thousand canaries never meet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedlite.audit.audited import LARGEST_DELTA, AuditedRun
from fedlite.audit.checks import (
    Check,
    Directions,
    Floats,
    Mechanism,
    Seen,
    check_evenness,
    check_push,
    observed,
)
from fedlite.audit.error_rate import ERROR_RATE, error_of_bound, error_of_check
from fedlite.audit.noise_checks import (
    check_fresh_noise,
    check_neighbours,
    check_noise,
    check_shape,
)
from fedlite.audit.one_run import Bound, bound_from_scores
from fedlite.audit.targets import Target
from fedlite.federation.options import FederationOptions, StrategyOptions
from fedlite.privacy.accounting import Segment, compute_epsilon
from fedlite.privacy.plan import PrivacyPlan
from fedlite.report.audit_sections import CanaryEntry, CanarySetting, UnitName

SAMPLED = 4096  # coordinates whose noise is compared from release to release
SMALL_STEP = 2e-5  # of one weight in a release: gradients stay what the auditor worked out
QUIET = 0.05  # the noise multiplier under which it is read off who was sampled, and how often
ROUNDED = 20.0  # times the rounding of the largest weight is the least step that is told from it


@dataclass(frozen=True)
class CanaryAudit:
    """What an audit found. ``scores`` (m,) are higher where a canary seems to have taken part;
    ``included`` (m,) are the coins. ``passed`` is None where nothing was claimed."""

    unit: UnitName
    target: Target
    claimed_epsilon: float | None
    bound: Bound
    delta: float
    facts: CanarySetting
    scores: Floats
    included: NDArray[np.bool_]
    checks: tuple[Check, ...]
    error: float

    @property
    def passed(self) -> bool | None:
        """Whether the lower bound is at or below the claim, and all that ran was what was
        charged."""
        if self.claimed_epsilon is None:
            return None
        ran = all(check.p_value >= self.error for check in self.checks)
        return ran and self.bound.epsilon <= self.claimed_epsilon

    def record(self) -> CanaryEntry:
        """The entry of ``audits.json``."""
        return {
            "unit": self.unit,
            "attacked": self.target.words,
            "claimed_epsilon": self.claimed_epsilon,
            "lower_bound": self.bound.epsilon,
            "confidence": 1 - ERROR_RATE,
            "delta": self.delta,
            "canaries": len(self.scores),
            "guesses": self.bound.guesses,
            "correct": self.bound.correct,
            **self.facts,
            "checks": [check.record(self.error) for check in self.checks],
            "passed": self.passed,
        }


def toss_coins(count: int, seed: int) -> NDArray[np.bool_]:
    """``count`` fair coins: which canaries take part."""
    return np.random.default_rng(seed).random(count) < 0.5


class Watcher:
    """Keeps what one observer needs of each release: it knows where ``rows`` of the target push."""

    def __init__(
        self,
        target: Target,
        rows: NDArray[np.int64],
        included: NDArray[np.bool_],
        plan: PrivacyPlan | None,
    ) -> None:
        gradients = target.gradients[torch.from_numpy(rows)]
        norms = gradients.norm(dim=1, keepdim=True)
        if plan is not None:  # else a client's whole update is cut, whose norm is above the clip
            norms = norms.clamp(min=plan.max_grad_norm)
        sizes = [target.networks.student_state[name].numel() for name in target.names]
        self._directions = Directions((gradients / norms.clamp(min=1e-30)).numpy(), sizes)
        self._included = included[rows]
        size = self._directions.size
        rng = np.random.default_rng(0)
        self._sampled = np.sort(rng.choice(size, min(size, SAMPLED), replace=False))
        self._releases: list[tuple[Floats, Floats, Floats]] = []

    def see(self, release: Tensor) -> None:
        """Take in one release (d,), in clip norms."""
        self._releases.append(observed(self._directions, release.numpy(), self._sampled))

    def seen(self) -> Seen:
        """Everything so far."""
        return Seen.of(self._directions, self._included, self._releases, self._sampled)


def small_step(target: Target, steps: int) -> float:
    """How far noise should move a weight in a release of so many local ``steps``: little, but far
    beyond what rounding does to the largest weight in all of them."""
    state = target.networks.student_state
    largest = max(float(state[name].abs().max()) for name in target.names)
    rounding = torch.finfo(torch.float32).eps * largest * math.sqrt(steps)
    return max(SMALL_STEP, ROUNDED * rounding)


def scores_of(seen: Seen, mechanism: Mechanism) -> Floats:
    """(m,): what is left of each canary's push in all releases, by the best linear estimate of how
    often it was sampled (a ridge regression on the directions of all canaries)."""
    releases = len(seen.along)
    expected = releases * mechanism.mean
    variance = expected**2 / 4 + releases * mechanism.sampling_variance / 2
    ridge = releases * mechanism.noise_variance / variance
    everybody = np.full(seen.directions.count, expected / 2)
    off = seen.along.sum(axis=0) - seen.directions.gram(everybody)
    return seen.directions.solve(off, ridge)


def concluded(
    audited: AuditedRun,
    unit: UnitName,
    target: Target,
    seen: Sequence[Seen],
    observers: Sequence[NDArray[np.int64]],
    mechanism: Mechanism,
    facts: CanarySetting,
    claim: tuple[Segment, float, str] | None,
    checks: tuple[Check, ...],
) -> CanaryAudit:
    """The bound that the scores give, beside the checks of all that was seen."""
    config = audited.config
    places = np.concatenate(observers)
    scores, included = np.zeros(len(places)), np.zeros(len(places), dtype=np.bool_)
    scores[places] = np.concatenate([scores_of(one, mechanism) for one in seen])
    included[places] = np.concatenate([one.included for one in seen])
    claimed, delta = None, LARGEST_DELTA
    if claim is not None:
        segment, delta, accountant = claim
        claimed = compute_epsilon([segment], delta, accountant)
        if target.steady:
            checks = (
                check_noise(seen, mechanism),
                check_fresh_noise(seen),
                check_push(seen, mechanism),
                check_evenness(seen, mechanism),
                *checks,
            )
        if target.still:  # where there are coordinates that nothing ever pushes
            checks = (check_neighbours(seen), check_shape(seen, mechanism), *checks)
    confidence = 1 - error_of_bound(config)
    bound = bound_from_scores(scores, included, delta, confidence=confidence)
    error = error_of_check(config)
    return CanaryAudit(unit, target, claimed, bound, delta, facts, scores, included, checks, error)


def still_server(options: FederationOptions, rounds: int) -> FederationOptions:
    """The run's options with nothing after a release but itself: strategies and averages of
    iterates are post-processing. FedProx' pull, which is a part of local training, stays."""
    strategy = StrategyOptions("fedavg")
    if options.strategy.name == "fedprox":
        strategy = StrategyOptions("fedprox", proximal_mu=options.strategy.proximal_mu)
    return replace(
        options, rounds=rounds, strategy=strategy, ema_decay=0.0, max_participations=None
    )
