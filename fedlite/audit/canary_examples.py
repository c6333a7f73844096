"""Canary examples: the audit of what one example's privacy rests on, at a client and in the sum."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fedlite.audit.audited import LARGEST_DELTA, AuditedRun
from fedlite.audit.canaries import (
    QUIET,
    CanaryAudit,
    Watcher,
    concluded,
    small_step,
    still_server,
    toss_coins,
)
from fedlite.audit.checks import (
    Check,
    Mechanism,
    check_sampling,
    check_spending,
)
from fedlite.audit.least_epsilon import least_epsilon
from fedlite.audit.scratch import Examples, Round, Scratch, flattened
from fedlite.audit.targets import OVERSHOOT, Target
from fedlite.federation.options import FederationOptions
from fedlite.federation.plans import Plans
from fedlite.privacy.plan import PrivacyPlan
from fedlite.report.audit_sections import CanarySetting

LOCAL_CLIENTS = 2  # each with its own half of the canaries, so that they could share their noise
SHARERS = 4  # clients whose shares of noise add up, under aggregate trust
MOST_STEPS = 400  # of canaries in the one-hot layer; fewer rounds are audited, at their own claim
MOST_STUDENT_STEPS = 60
XRAY_CANARIES, XRAY_DRAWS = 100, 20


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
    federation = still_server(options, rounds)
    federation = replace(federation, fraction=1.0)
    if plan is not None:
        plan, federation = _fit(plan, target, federation, known + trainers)
    mechanism = _mechanism(plan, federation, audited.config.privacy.sample_rate)
    scale = batch_size(plan) / plan.max_grad_norm if plan else 1.0
    observers = [np.flatnonzero(owners == known + one) for one in range(trainers)]
    if plan is not None and plan.trust == "aggregate":
        observers = [np.arange(len(included))]
    watchers = [Watcher(target, rows, included, plan) for rows in observers]
    trained: set[int] = set()

    def watch(seen: Round) -> None:
        trained.update(seen.replies)
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
        return concluded(audited, "example", target, seen, observers, mechanism, facts, None, ())
    facts |= {"noise_multiplier": plan.noise_multiplier, "trust": plan.trust}
    segment = (plan.noise_multiplier, plan.sample_rate, steps * rounds)
    reported = min(made.history[-1].epsilons[client] for client in trained)
    checks = [check_spending(reported, least_epsilon(*segment, plan.delta))]
    if target.still:
        checks.append(_sampling_of_examples(audited, plan, target, directory))
    claim = (segment, min(plan.delta, LARGEST_DELTA), plan.accountant)
    return concluded(
        audited, "example", target, seen, observers, mechanism, facts, claim, tuple(checks)
    )


def _sampling_of_examples(
    audited: AuditedRun, plan: PrivacyPlan, target: Target, directory: Path
) -> Check:
    """The same clients at next to no noise, where each release shows who was sampled."""
    target = target.first(XRAY_CANARIES)
    everybody = np.ones(len(target.inputs), dtype=np.bool_)
    draws = math.ceil(XRAY_DRAWS / (plan.sample_rate * plan.steps))
    federation = still_server(audited.config.federation, min(150, max(XRAY_DRAWS, draws)))
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
    return plan, replace(federation, learning_rate=small_step(target, plan.steps) / step)


def batch_size(plan: PrivacyPlan) -> float:
    """The constant that a noised sum must be divided by, worked out apart from the plan."""
    return plan.sample_rate * plan.expected_examples
