"""Running the attacks that the options ask for, and keeping what they find."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from fedlite.audit import attack_charts, inversion, membership
from fedlite.audit.audited import AuditedRun
from fedlite.audit.canary_clients import audit_clients
from fedlite.audit.canary_examples import audit_examples
from fedlite.audit.dirac import one_hot_target
from fedlite.audit.least_epsilon import least_epsilon
from fedlite.audit.retrain import Retraining
from fedlite.audit.scratch import Examples, Networks, quiet_flower
from fedlite.audit.targets import student_target
from fedlite.base.errors import UsageError
from fedlite.base.files import read_json, write_json
from fedlite.data.types import PublicData
from fedlite.distill.answers import taught_answers
from fedlite.distill.loss import build_loss
from fedlite.distill.taps import Between
from fedlite.privacy.client_level import ClientPlan
from fedlite.privacy.plan import PrivacyPlan
from fedlite.privacy.randomness import make_randomness
from fedlite.report.audit_sections import (
    AccountingEntry,
    AttackedBy,
    AuditsSection,
    CanaryEntry,
    UnitName,
)
from fedlite.report.drawing import save_figure
from fedlite.report.progress import Progress
from fedlite.report.tensorboard import RunBoard

AUDITS_FILE = "audits.json"
SMALLEST_CLIENT = 20  # candidates: with half of them in, none is left without a member

Found = tuple[AuditsSection, dict[str, Figure]]
"""What a part found, as its part of ``audits.json``, and its pictures by name."""


def run_audits(
    audited: AuditedRun, progress: Progress, board: RunBoard | None = None
) -> AuditsSection:
    """Run the parts of ``audit.parts`` and keep each as soon as it is done.

    Writes ``audits.json`` and ``pictures/audit_*.png`` into the run directory; what an earlier
    audit found in other parts stays. A ``board`` gets every part's numbers and pictures.

    Returns:
        All of ``audits.json``.
    """
    path = audited.directory / AUDITS_FILE
    results: AuditsSection = read_json(path) if path.exists() else {"seconds": {}}
    parts = {"dirac": _dirac, "membership": _membership, "inversion": _inversion}
    for name, part in parts.items():
        if name not in audited.config.audit.parts:
            continue
        started = time.perf_counter()
        found, figures = part(audited, progress)
        results |= found
        results["seconds"][name] = time.perf_counter() - started
        for picture, figure in figures.items():
            save_figure(figure, audited.directory / "pictures" / f"{picture}.png")
        write_json(path, results)
        if board is not None:
            board.log_audit(found, figures)
    if board is not None:
        board.close()
    return results


def _dirac(audited: AuditedRun, progress: Progress) -> Found:
    """Canaries in the run's own student and in the one-hot layer, and the run's accounting."""
    plans, found = audited.plans, []
    with (
        progress.stage("canaries") as bar,
        tempfile.TemporaryDirectory(dir=audited.directory) as folder,
        quiet_flower(),
    ):
        targets = [one_hot_target(audited, audited.config.audit.canaries)]
        if plans.example is not None or plans.client is not None:
            targets.append(student_target(audited))
        for target in targets:
            if plans.example is not None or plans.client is None:
                found.append(audit_examples(audited, target, Path(folder)))
            if plans.client is not None:
                found.append(audit_clients(audited, target, Path(folder)))
        bar.advance(0, lower_bound=max(one.bound.epsilon for one in found))
    parts: dict[AttackedBy, dict[UnitName, CanaryEntry]] = {"student": {}, "layer": {}}
    for one in found:
        parts[one.target.kind][one.unit] = one.record()
    names = {"example": "audit_dirac", "client": "audit_dirac_client"}
    return (
        {
            "canaries": parts["student"],
            "dirac": parts["layer"],
            "accounting": audited_accounting(audited),
        },
        {
            names[one.unit]: attack_charts.canary_scores(one)
            for one in found
            if one.target.kind == "layer"
        },
    )


def audited_accounting(audited: AuditedRun) -> dict[UnitName, AccountingEntry]:
    """What the run's charges cost for certain, beside what its own accountant says of them."""
    found: dict[UnitName, AccountingEntry] = {}
    example, client = audited.plans.example, audited.plans.client
    if example is not None:
        noise, rate, steps = example.segment
        least = least_epsilon(noise, rate, steps * audited.participations, example.delta)
        found["example"] = _accounted(example.epsilon_after(audited.participations), least, example)
    if client is not None:
        noise, rate, steps = client.segment
        least = least_epsilon(noise, rate, steps * audited.rounds, client.delta)
        found["client"] = _accounted(client.epsilon_after(audited.rounds), least, client)
    return found


def _accounted(claimed: float, least: float, plan: PrivacyPlan | ClientPlan) -> AccountingEntry:
    return {
        "claimed_epsilon": claimed,
        "lower_bound": least,
        "delta": plan.delta,
        "passed": claimed >= least,
    }


def _membership(audited: AuditedRun, progress: Progress) -> Found:
    config, splits = audited.config, audited.splits
    options, control = config.audit, config.audit.control and config.privacy.private
    models = (options.targets + options.shadows) * (2 if control else 1)
    with progress.stage("membership", total=models) as bar:
        found = membership.audit_membership(
            Retraining(audited, Networks.of(audited), _candidates(audited), audited.directory),
            targets=options.targets,
            shadows=options.shadows,
            claimed_epsilon=audited.claimed_epsilon,
            delta=audited.delta,
            compression=membership.Compression(audited.teacher, splits.task, splits.public)
            if options.compressed
            else None,
            control=control,
            on_model=bar.advance,
        )
        bar.advance(0, auc=found.attacks[membership.STUDENT].auc)
    return {"membership": found.record()}, {"audit_membership": attack_charts.membership_roc(found)}


def _candidates(audited: AuditedRun) -> Examples:
    """Twice the nominal size of each audited client, half of which will be members."""
    config, splits, plan = audited.config, audited.splits, audited.plans.example
    average = sum(splits.client_sizes()) // splits.num_clients
    nominal = config.privacy.expected_examples or average
    test, clients = splits.test, config.audit.clients
    if plan is not None and plan.trust == "aggregate":
        clients = max(2, clients)  # the smallest sum with noise that its observer does not know
    count = min(len(test), 2 * nominal * clients)
    if count < SMALLEST_CLIENT * clients:
        raise UsageError(
            f"audit.clients={clients}: {len(test)} test examples in clients of {nominal} leave"
            f" fewer than {SMALLEST_CLIENT} candidates for each; give fewer clients"
        )
    rows = np.random.default_rng(audited.seed("candidates")).permutation(len(test))[:count]
    chosen = torch.from_numpy(rows)
    return Examples(test.inputs[chosen], test.labels[chosen], np.arange(count) % clients, clients)


def _inversion(audited: AuditedRun, progress: Progress) -> Found:
    config, splits, plans = audited.config, audited.splits, audited.plans
    public = splits.public_validation
    row = audited.seed("planted") % len(public)
    planted = PublicData(public.inputs[row : row + 1], public.labels[row : row + 1])
    between = Between(audited.student, audited.teacher, splits.task.blank(2))
    loss = build_loss(config.distill, audited.class_weights, between)
    taught = taught_answers(audited.teacher, planted.inputs, loss.teacher_taps)
    mode = config.privacy.randomness if config.privacy.private else "deterministic"
    gradients = inversion.observed_gradients(
        audited.student,
        loss,
        planted,
        taught,
        plans,
        config.federation.learning_rate,
        make_randomness(mode, audited.seed("inversion"), "noise"),
    )
    steps = config.audit.inversion_steps
    with progress.stage("inversion", total=len(inversion.SEARCHES) * steps * len(gradients)) as bar:
        found = inversion.invert(
            audited.student,
            loss,
            planted,
            taught,
            gradients,
            steps=steps,
            seed=audited.seed("search"),
            bounds=(float(splits.public.inputs.min()), float(splits.public.inputs.max())),
            on_step=bar.advance,
        )
        for name in (inversion.PLAIN, inversion.NOISED):
            bar.advance(0, **{name: found.cosine.get(name)})
    noise = plans.example or plans.client
    noise_multiplier = noise.noise_multiplier if noise else None
    record: AuditsSection = {"inversion": found.record(noise_multiplier)}
    if not found.reconstructions:
        return record, {}
    figure = attack_charts.inverted_example(found, splits.task, noise_multiplier)
    return record, {"audit_inversion": figure}
