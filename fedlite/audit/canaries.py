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
from pathlib import Path

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
    check_fresh_noise,
    check_noise,
    check_push,
    check_sampling,
    check_spending,
)
from fedlite.audit.error_rate import ERROR_RATE, error_of_bound, error_of_check
from fedlite.audit.least_epsilon import least_epsilon
from fedlite.audit.one_run import Bound, bound_from_scores
from fedlite.audit.scratch import Examples, Networks, Round, Scratch, flattened
from fedlite.distill.answers import taught_answers
from fedlite.distill.loss import build_loss, example_losses
from fedlite.federation.options import FederationOptions, StrategyOptions
from fedlite.federation.plans import Plans
from fedlite.models.build import build_model, load_state
from fedlite.privacy.accounting import Segment, compute_epsilon
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.plan import PrivacyPlan
from fedlite.report.schema import AttackedBy, CanaryEntry, CanarySetting, UnitName

LOCAL_CLIENTS = 2  # each with its own half of the canaries, so that they could share their noise
SHARERS = 4  # clients whose shares of noise add up, under aggregate trust
MOST_STEPS = 400  # of canaries in the one-hot layer; fewer rounds are audited, at their own claim
MOST_STUDENT_STEPS = 60
MOST_RELEASES, MOST_STUDENT_RELEASES = 100, 10  # of the client level
MOST_CALLS = 2000  # of canary clients, all rounds together
MOST_STUDENT_CALLS = 300
STUDENT_CANARIES = 200
LARGEST_DIRECTIONS = 20_000_000  # numbers
SAMPLED = 4096  # coordinates whose noise is compared from release to release
SMALL_STEP = 2e-5  # of one weight in a release: gradients stay what the auditor worked out
OVERSHOOT = 10.0  # a canary's push before clipping, in clip norms
QUIET = 0.05  # the noise multiplier under which the sampling of examples is read off
XRAY_CANARIES, XRAY_DRAWS = 100, 20


@dataclass(frozen=True)
class Target:
    """What canaries attack: networks, and candidates with the gradient of each.

    ``gradients`` (m, d) are those of the round's weights before clipping; ``names`` the arrays that
    they are of. ``steady`` is False where the student itself draws (dropout), so that nobody knows
    the gradient of a step. ``still`` says that the weights may move: gradients do not depend on
    them.
    """

    kind: AttackedBy
    words: str
    networks: Networks
    inputs: Tensor
    labels: Tensor
    gradients: Tensor
    names: tuple[str, ...]
    steady: bool
    still: bool

    def first(self, count: int) -> "Target":
        """The target with so many canaries at most."""
        return replace(
            self,
            inputs=self.inputs[:count],
            labels=self.labels[:count],
            gradients=self.gradients[:count],
        )

    def scaled(self, factor: float) -> "Target":
        """Where gradients grow with the inputs: both ``factor`` times as large."""
        return replace(self, inputs=factor * self.inputs, gradients=factor * self.gradients)


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


def student_target(audited: AuditedRun) -> Target:
    """The run's own student under its own loss, taught by its own teacher."""
    config, task = audited.config, audited.splits.task
    trained = [value.numel() for value in audited.student.parameters() if value.requires_grad]
    count = max(20, min(STUDENT_CANARIES, LARGEST_DIRECTIONS // sum(trained)))
    generator = torch.Generator().manual_seed(audited.seed("canaries"))
    inputs = task.random(count, generator)
    labels = torch.randint(task.num_classes, (count,), generator=generator)
    networks = Networks.of(audited)
    words = f"{networks.student.name}, the run's own student with its loss {config.distill.loss}"
    return make_target("student", words, networks, inputs, labels, still=False)


def make_target(
    kind: AttackedBy,
    words: str,
    networks: Networks,
    inputs: Tensor,
    labels: Tensor,
    *,
    still: bool,
) -> Target:
    """Work out the gradients of candidates one by one, by plain autograd."""
    student = build_model(networks.student, networks.task, seed=0)
    load_state(student, networks.student_state, where="audited student")
    teacher = build_model(networks.teacher, networks.task, seed=0)
    load_state(teacher, networks.teacher_state, where="teacher")
    loss = build_loss(networks.loss)
    taught = taught_answers(teacher, inputs, loss.teacher_taps)
    losses = example_losses(loss, inputs, labels, taught)
    trained = {name: one for name, one in student.named_parameters() if one.requires_grad}

    def gradient(row: int) -> Tensor:
        value = losses(student, torch.tensor([row])).sum()
        parts = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
        pairs = zip(parts, trained.values(), strict=True)
        filled = [torch.zeros_like(one) if part is None else part for part, one in pairs]
        return torch.cat([part.flatten() for part in filled]).double()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gradients = torch.stack([gradient(row) for row in range(len(inputs))])
        steady = torch.equal(gradient(0), gradients[0])
    return Target(kind, words, networks, inputs, labels, gradients, tuple(trained), steady, still)


def batch_size(plan: PrivacyPlan) -> float:
    """The constant that a noised sum must be divided by, worked out apart from the plan."""
    return plan.sample_rate * plan.expected_examples


def toss_coins(count: int, seed: int) -> NDArray[np.bool_]:
    """``count`` fair coins: which canaries take part."""
    return np.random.default_rng(seed).random(count) < 0.5


def audit_examples(audited: AuditedRun, target: Target, directory: Path) -> CanaryAudit:
    """Audit one example's privacy: DP-SGD on clients, and the sum of them under aggregate trust.

    Under aggregate trust the observer is one of the clients, and with the colluders it subtracts
    what it knows; the noise of the others is what the plan claims.
    """
    plan, options = audited.plans.example, audited.config.federation
    steps = plan.steps if plan else options.local_steps
    most = MOST_STEPS if target.still else MOST_STUDENT_STEPS
    rounds = min(audited.participations, max(1, most // steps))
    included = toss_coins(len(target.inputs), audited.seed("coins"))
    known, trainers = 0, LOCAL_CLIENTS
    if plan is not None and plan.trust == "aggregate":
        known, trainers = 1 + plan.colluders, SHARERS
        plan = replace(plan, min_cohort=known + trainers)
    owners = known + np.arange(len(included)) % trainers
    federation = _still_server(options, rounds)
    federation = replace(federation, fraction=1.0)
    if plan is not None:
        plan, federation = _fit(plan, target, federation, known + trainers)
    mechanism = _mechanism(plan, federation, audited.config.privacy.sample_rate)
    scale = batch_size(plan) / plan.max_grad_norm if plan else 1.0
    observers = [np.flatnonzero(owners == known + one) for one in range(trainers)]
    if plan is not None and plan.trust == "aggregate":
        observers = [np.arange(len(included))]
    watchers = [Watcher(target, rows, included, plan) for rows in observers]

    def watch(seen: Round) -> None:
        start = flattened(seen.start, target.names)
        moved = {i: start - flattened(s, target.names) for i, s in seen.replies.items()}
        if len(watchers) == 1:
            whole = (start - flattened(seen.result, target.names)) * len(moved)
            released = [whole - sum(moved[i] for i in range(known))]
        else:
            released = [moved[known + i] for i in range(trainers)]
        for watcher, one in zip(watchers, released, strict=True):
            watcher.see(one * scale / federation.learning_rate)

    blank = target.inputs[:known] * 0
    made = Scratch(
        config=audited.config,
        networks=target.networks,
        examples=Examples(
            torch.cat([blank, target.inputs[torch.from_numpy(included)]]),
            torch.cat([target.labels[:known], target.labels[torch.from_numpy(included)]]),
            np.concatenate([np.arange(known), owners[included]]),
            known + trainers,
        ),
        plans=Plans(example=plan),
        privacy=audited.privacy("example" if plan else "none"),
        federation=federation,
        directory=directory,
        name=f"{target.kind}-examples",
        seed=audited.seed(f"{target.kind}-examples"),
    ).run(watch)
    seen = [watcher.seen() for watcher in watchers]
    facts: CanarySetting = {"steps": steps * rounds, "sample_rate": mechanism.rate}
    if plan is None:
        return _concluded(audited, "example", target, seen, observers, mechanism, facts, None, ())
    facts |= {"noise_multiplier": plan.noise_multiplier, "trust": plan.trust}
    segment = (plan.noise_multiplier, plan.sample_rate, steps * rounds)
    reported = max(made.history[-1].epsilons)
    checks = [check_spending(reported, least_epsilon(*segment, plan.delta))]
    if target.still:
        checks.append(_sampling_of_examples(audited, plan, target, directory))
    claim = (segment, min(plan.delta, LARGEST_DELTA), plan.accountant)
    return _concluded(
        audited, "example", target, seen, observers, mechanism, facts, claim, tuple(checks)
    )


def audit_clients(audited: AuditedRun, target: Target, directory: Path) -> CanaryAudit:
    """Audit one client's privacy: the cohort, the clip, the sum and its noise, on canary clients.

    Each holds one example, up to three times over: their number must not matter.
    """
    plan, options = audited.plans.client, audited.config.federation
    assert plan is not None
    rounds = min(audited.rounds, MOST_RELEASES if target.still else MOST_STUDENT_RELEASES)
    calls = MOST_CALLS if target.still else MOST_STUDENT_CALLS
    target = target.first(max(20, int(2 * calls / (rounds * plan.participation_rate))))
    included = toss_coins(len(target.inputs), audited.seed("coins"))
    federation = _still_server(options, rounds)
    local = Mechanism.of_steps(
        0.0, 1.0, steps=options.local_steps, momentum=options.momentum, pull=0.0
    )
    noise = noise_of_updates(plan)
    overshoot = OVERSHOOT
    if plan.adaptive:  # until half of the clients are no longer cut
        overshoot *= math.exp(plan.clip_learning_rate * rounds)
    if target.still:
        push = overshoot * plan.clip / options.learning_rate / float(local.gains.sum())
        target = target.scaled(push / float(target.gradients.norm(dim=1).median()))
    else:
        clip = SMALL_STEP * plan.expected_cohort / noise
        median = float(target.gradients.norm(dim=1).median()) * float(local.gains.sum())
        plan = replace(plan, clip=clip)
        federation = replace(federation, learning_rate=overshoot * clip / median)
    mechanism = Mechanism(noise, plan.participation_rate, np.ones(1))
    everybody = np.arange(len(included))
    watcher = Watcher(target, everybody, included, None)
    cohorts: list[list[int]] = []

    def watch(seen: Round) -> None:
        assert seen.clip is not None
        moved = flattened(seen.start, target.names) - flattened(seen.result, target.names)
        watcher.see(moved * plan.expected_cohort / seen.clip)
        cohorts.append(sorted(seen.replies))

    clients = np.flatnonzero(included)
    owners = np.repeat(np.arange(len(clients)), 1 + np.arange(len(clients)) % 3)
    rows = torch.from_numpy(clients[owners])
    made = Scratch(
        config=audited.config,
        networks=target.networks,
        examples=Examples(target.inputs[rows], target.labels[rows], owners, len(clients)),
        plans=Plans(client=plan),
        privacy=replace(audited.privacy("client"), sample_rate=1.0),
        federation=federation,
        directory=directory,
        name=f"{target.kind}-clients",
        seed=audited.seed(f"{target.kind}-clients"),
    ).run(watch)
    noise_multiplier, sample_rate, steps = plan.segment
    segment = (noise_multiplier, sample_rate, steps * rounds)
    facts: CanarySetting = {
        "steps": steps * rounds,
        "sample_rate": sample_rate,
        "noise_multiplier": noise_multiplier,
        "trust": "central",
    }
    reported = made.history[-1].client_level_epsilon or 0.0
    checks = [check_spending(reported, least_epsilon(*segment, plan.delta))]
    if target.still:
        asked = np.array([[float(i in cohort) for i in range(len(clients))] for cohort in cohorts])
        checks.append(check_sampling(asked, replace(mechanism, noise=0.0)))
    claim = (segment, min(plan.delta, LARGEST_DELTA), plan.accountant)
    return _concluded(
        audited,
        "client",
        target,
        [watcher.seen()],
        [everybody],
        mechanism,
        facts,
        claim,
        tuple(checks),
    )


def noise_of_updates(plan: ClientPlan) -> float:
    """On the sum of clipped updates, in clips, worked out apart from the plan: beside noised bits,
    what is left of the whole (Andrew et al. 2021, arXiv 1905.03871, theorem 1)."""
    if not plan.adaptive:
        return plan.noise_multiplier
    return 1 / math.sqrt(1 / plan.noise_multiplier**2 - 1 / (4 * plan.bit_noise**2))


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
        self._directions = Directions((gradients / norms.clamp(min=1e-30)).numpy())
        self._included = included[rows]
        size = self._directions.size
        rng = np.random.default_rng(0)
        self._sampled = np.sort(rng.choice(size, min(size, SAMPLED), replace=False))
        self._releases: list[tuple[Floats, float, Floats]] = []

    def see(self, release: Tensor) -> None:
        """Take in one release (d,), in clip norms."""
        vector = release.numpy()
        products = self._directions.along(vector)
        self._releases.append((products, float(vector @ vector), vector[self._sampled]))

    def seen(self) -> Seen:
        """Everything so far."""
        return Seen.of(self._directions, self._included, self._releases, self._sampled)


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


def _concluded(
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
    confidence = 1 - error_of_bound(config)
    bound = bound_from_scores(scores, included, delta, confidence=confidence)
    error = error_of_check(config)
    return CanaryAudit(unit, target, claimed, bound, delta, facts, scores, included, checks, error)


def _sampling_of_examples(
    audited: AuditedRun, plan: PrivacyPlan, target: Target, directory: Path
) -> Check:
    """The same clients at next to no noise, where each release shows who was sampled."""
    target = target.first(XRAY_CANARIES)
    everybody = np.ones(len(target.inputs), dtype=np.bool_)
    draws = math.ceil(XRAY_DRAWS / (plan.sample_rate * plan.steps))
    federation = _still_server(audited.config.federation, min(150, max(XRAY_DRAWS, draws)))
    plan = replace(
        plan,
        noise_multiplier=QUIET,
        epsilon=1e12,
        accountant="rdp",
        trust="local",
        min_cohort=1,
        colluders=0,
    )
    mechanism = _mechanism(plan, federation, plan.sample_rate)
    scale = batch_size(plan) / plan.max_grad_norm / federation.learning_rate
    watcher = Watcher(target, np.arange(len(everybody)), everybody, plan)

    def watch(seen: Round) -> None:
        moved = flattened(seen.start, target.names) - flattened(seen.replies[0], target.names)
        watcher.see(moved * scale)

    Scratch(
        config=audited.config,
        networks=target.networks,
        examples=Examples(target.inputs, target.labels, np.zeros(len(everybody), np.int64), 1),
        plans=Plans(example=plan),
        privacy=replace(audited.privacy("example"), epsilon=None, trust="local"),
        federation=replace(federation, fraction=1.0),
        directory=directory,
        name="sampling",
        seed=audited.seed("sampling"),
    ).run(watch)
    seen = watcher.seen()
    weights = np.stack([seen.directions.solve(one) for one in seen.along])
    return check_sampling(weights, mechanism)


def _still_server(options: FederationOptions, rounds: int) -> FederationOptions:
    """The run's options with nothing after a release but itself: strategies and averages of
    iterates are post-processing. FedProx' pull, which is a part of local training, stays."""
    strategy = StrategyOptions("fedavg")
    if options.strategy.name == "fedprox":
        strategy = StrategyOptions("fedprox", proximal_mu=options.strategy.proximal_mu)
    return replace(
        options, rounds=rounds, strategy=strategy, ema_decay=0.0, max_participations=None
    )


def _mechanism(
    plan: PrivacyPlan | None, federation: FederationOptions, sample_rate: float
) -> Mechanism:
    pull = federation.learning_rate * federation.strategy.proximal_mu
    return Mechanism.of_steps(
        plan.noise_multiplier if plan else 0.0,
        plan.sample_rate if plan else sample_rate,
        steps=plan.steps if plan else federation.local_steps,
        momentum=federation.momentum,
        pull=pull,
    )


def _fit(
    plan: PrivacyPlan, target: Target, federation: FederationOptions, cohort: int
) -> tuple[PrivacyPlan, FederationOptions]:
    """Where gradients depend on the weights: a learning rate so small that they stay as they were,
    and a clip norm that cuts all canaries. Noise and sampling are the plan's."""
    if target.still:
        return plan, federation
    clip = min(plan.max_grad_norm, float(target.gradients.norm(dim=1).median()) / OVERSHOOT)
    plan = replace(plan, max_grad_norm=clip)
    gain = math.sqrt(_mechanism(plan, replace(federation, learning_rate=1e-9), 1.0).power)
    shared = cohort if plan.trust == "aggregate" else 1
    step = plan.noise_multiplier * clip * gain / (batch_size(plan) * shared)
    return plan, replace(federation, learning_rate=SMALL_STEP / step)
