"""Canary clients: the audit of what one client's privacy rests on, the release of a cohort."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

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
    Floats,
    Mechanism,
    Seen,
    check_counting,
    check_sampling,
    check_spending,
)
from fedlite.audit.least_epsilon import least_epsilon
from fedlite.audit.scratch import Examples, Round, Scratch, flattened
from fedlite.audit.targets import OVERSHOOT, Target
from fedlite.federation.options import FederationOptions
from fedlite.federation.plans import Plans
from fedlite.federation.rounds import Federation
from fedlite.privacy.client_level import ClientPlan
from fedlite.report.audit_sections import CanarySetting

MOST_RELEASES, MOST_STUDENT_RELEASES = 100, 10
QUIET_RELEASES = 10  # of next to no noise, which show how often each client counts
MOST_CALLS = 2000  # of canary clients, all rounds together
MOST_STUDENT_CALLS = 300


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
    federation = still_server(options, rounds)
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
        clip = small_step(target, options.local_steps) * plan.expected_cohort / noise
        median = float(target.gradients.norm(dim=1).median()) * float(local.gains.sum())
        plan = replace(plan, clip=clip)
        federation = replace(federation, learning_rate=overshoot * clip / median)
    mechanism = Mechanism(noise, plan.participation_rate, np.ones(1))
    name = f"{target.kind}-clients"
    seen, asked, made = _releases(audited, plan, target, included, federation, directory, name)
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
        checks.append(check_sampling(asked, replace(mechanism, noise=0.0)))
        quiet = replace(plan, noise_multiplier=QUIET, epsilon=1e12, accountant="rdp")
        federation = replace(federation, rounds=min(rounds, QUIET_RELEASES))
        plain, asked, _ = _releases(
            audited, quiet, target, included, federation, directory, "counting"
        )
        checks.append(check_counting(plain, asked, noise_of_updates(quiet)))
    claim = (segment, min(plan.delta, LARGEST_DELTA), plan.accountant)
    return concluded(
        audited,
        "client",
        target,
        [seen],
        [np.arange(len(included))],
        mechanism,
        facts,
        claim,
        tuple(checks),
    )


def _releases(
    audited: AuditedRun,
    plan: ClientPlan,
    target: Target,
    included: NDArray[np.bool_],
    federation: FederationOptions,
    directory: Path,
    name: str,
) -> tuple[Seen, Floats, Federation]:
    """What was released, and which of the n clients in the data was in each cohort, (R, n)."""
    watcher = Watcher(target, np.arange(len(included)), included, None)
    clients = np.flatnonzero(included)
    asked: list[list[float]] = []

    def watch(seen: Round) -> None:
        assert seen.clip is not None
        moved = flattened(seen.start, target.names) - flattened(seen.result, target.names)
        watcher.see(moved * plan.expected_cohort / seen.clip)
        asked.append([float(client in seen.replies) for client in range(len(clients))])

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
        name=name,
        seed=audited.seed(name),
    ).run(watch)
    return watcher.seen(), np.array(asked), made


def noise_of_updates(plan: ClientPlan) -> float:
    """On the sum of clipped updates, in clips, worked out apart from the plan: beside noised bits,
    what is left of the whole (Andrew et al. 2021, arXiv 1905.03871, theorem 1)."""
    if not plan.adaptive:
        return plan.noise_multiplier
    return 1 / math.sqrt(1 / plan.noise_multiplier**2 - 1 / (4 * plan.bit_noise**2))
